"""Builds what Lambda runs: handler/, index/, the trimmed wheels, the model and run.sh.

`python -m infra.package --arch x86_64 --out build/lambda-x86_64 --zip build/lambda-x86_64.zip`
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index.embedder import MODEL_FILES
from index.errors import ModelFilesMissing
from infra import archive, bytecode, trim, wheels
from infra.wheels import BuildError
from scripts import model_files
from scripts.output import say

ROOT = Path(__file__).parents[1]
PACKAGES = ("handler", "index")
RUN = ROOT / "infra" / "run.sh"
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "starter.jsonl", "starter-measured.npz")
LIMIT = 262_144_000
"""Bytes that Lambda lets a function have, unzipped, its layers included."""
LAYER = 6_000_000
"""Bytes set aside for the Web Adapter's layer, which has 4.7 million."""
SPARE = 0.05
"""Of the limit, for what the next versions of the wheels add."""
MOST = int(LIMIT * (1 - SPARE)) - LAYER
INPUTS = ".inputs"


def main() -> None:
    options = _options()
    python = bytecode.find_python()
    try:
        build(options.arch, options.out, python)
    except (BuildError, ModelFilesMissing) as error:
        raise SystemExit(f"not packaged: {error}") from error
    say(report(options.out, python))
    if options.zip:
        archive.write_zip(options.out, options.zip)
        say(f"{options.zip}: {options.zip.stat().st_size:,} bytes, sha256 {_sha256(options.zip)}")


def build(arch: str, out: Path, python: Path | None, cache: Path | None = None) -> None:
    """The artifact in `out`, which is left as it is when its inputs are the same. `python` compiles; without one
    there is no .pyc. Raises BuildError, ModelFilesMissing."""
    model_dir = model_files.ensure(os.environ, report=say)
    out.parent.mkdir(parents=True, exist_ok=True)
    note = out.with_name(out.name + INPUTS)
    inputs = digest(arch, python)
    with _alone(out):
        if out.is_dir() and note.exists() and note.read_text() == inputs:
            return
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out.parent) as scratch:
            tree = Path(scratch) / "tree"
            _assemble(arch, tree, model_dir, python, cache or wheels.default_cache())
            note.unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)
            tree.rename(out)
        note.write_text(inputs)


def unzipped_size(tree: Path) -> int:
    """Bytes. Raises BuildError when too little of Lambda's limit is left."""
    size = sum(path.stat().st_size for _, path in archive.files(tree))
    if size > MOST:
        raise BuildError(f"{size:,} bytes unzipped; only {MOST:,} leave {SPARE:.0%} of Lambda's limit to spare")
    return size


def digest(arch: str, python: Path | None) -> str:
    """Differs whenever the artifact would."""
    whole = hashlib.sha256(f"{arch} {bytecode.version(python)}".encode())
    whole.update("".join(file.sha256 for file in model_files.PINNED).encode())
    whole.update(repr(model_files.SETTINGS).encode())
    for path in _sources():
        whole.update(f"{path.relative_to(ROOT)} {_sha256(path)}\n".encode())
    return whole.hexdigest()


def report(tree: Path, python: Path | None) -> str:
    size = unzipped_size(tree)
    spare = f"{1 - (size + LAYER) / LIMIT:.1%} of Lambda's limit to spare beside the adapter's layer"
    return f"{tree}: {size:,} bytes unzipped, {spare}; {_compiled_by(python)}"


def _compiled_by(python: Path | None) -> str:
    if python:
        return f"compiled by Python {bytecode.version(python)}"
    return f"NOT compiled, as no Python {wheels.PYTHON} was found: a cold start will take seconds longer"


def _assemble(arch: str, tree: Path, model_dir: Path, python: Path | None, cache: Path) -> None:
    wheels.install(arch, tree, cache)
    trim.trim(tree)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=LEFT_OUT)
    (tree / "model").mkdir()
    for name in MODEL_FILES:
        shutil.copyfile(model_dir / name, tree / "model" / name)
    shutil.copyfile(RUN, tree / RUN.name)
    if python:
        bytecode.compile_all(tree, python)
    archive.settle(tree)
    unzipped_size(tree)


def _sources() -> Iterator[Path]:
    """What is packed, and what packs it."""
    yield from (wheels.LOCK, RUN, *sorted(RUN.parent.glob("*.py")))
    for package in PACKAGES:
        for folder, folders, names in os.walk(ROOT / package):
            left_out = LEFT_OUT(folder, [*folders, *names])
            folders[:] = sorted(set(folders) - left_out)
            yield from (Path(folder) / name for name in sorted(set(names) - left_out))


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """SAM may build three functions at once."""
    with out.with_name(f".{out.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.package", description="Build what Lambda runs.")
    parser.add_argument("--arch", choices=tuple(wheels.MACHINES), default="x86_64")
    parser.add_argument("--out", type=Path, required=True, help="the directory to build")
    parser.add_argument("--zip", type=Path, help="a zip of it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
