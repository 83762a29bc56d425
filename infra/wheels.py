"""The locked wheels for the Lambda platform, kept in the user's cache → one tree."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("requirements-lambda.lock")
PYTHON = "3.13"
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Lambda's name of an architecture → the wheels' name."""
GLIBC_MINORS = range(28, 16, -1)
"""2.28 down to 2.17; the runtime's own is newer."""
DOWNLOAD_S = 900.0
INSTALL_S = 300.0


class BuildError(Exception):
    """Why there is no artifact."""


def install(arch: str, tree: Path, cache: Path, lock: Path = LOCK) -> None:
    """Raises BuildError. Wheels that the cache has are not downloaded again, nor is the index asked for them."""
    wheels = cache / arch
    fetched = wheels / f".{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not fetched.exists():
        wheels.mkdir(parents=True, exist_ok=True)
        _pip(DOWNLOAD_S, lock, "download", *_platform(arch), "--dest", str(wheels))
        fetched.touch()
    # The lock was resolved for the Lambda's Python; pip would ask whether its own will do.
    local = ("--no-index", "--find-links", str(wheels), "--ignore-requires-python")
    _pip(INSTALL_S, lock, "install", *_platform(arch), *local, "--no-compile", "--target", str(tree))


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nearvote" / "wheels"


def _platform(arch: str) -> list[str]:
    machine = MACHINES[arch]
    tags = [*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS), f"manylinux2014_{machine}"]
    platforms = [option for tag in tags for option in ("--platform", tag)]
    return [*platforms, "--python-version", PYTHON, "--implementation", "cp", "--abi", "cp" + PYTHON.replace(".", "")]


def _pip(seconds: float, lock: Path, command: str, *options: str) -> None:
    shared = ("-q", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps", "--require-hashes")
    line = [sys.executable, "-m", "pip", command, *shared, *options, "-r", str(lock)]
    try:
        subprocess.run(line, stdin=subprocess.DEVNULL, timeout=seconds, check=True)  # noqa: S603 - our own command
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"pip {command} did not end within {seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"pip {command} failed; what it said stands above") from error
