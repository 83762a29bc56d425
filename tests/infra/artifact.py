"""pytest plugin: what Lambda gets, built once, and what stands for Lambda's own Python here."""

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias

import pytest

from infra import bytecode, package, wheels
from tests.emulator import Emulated, emulated

ROOT = Path(__file__).parents[2]
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
"""This machine's, so that what is built can be run."""
BOTO3 = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six")
"""What the runtime brings."""
CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
"""What the runtime asks Lambda for events with."""
LOCKED = re.compile(r"^([a-z0-9-]+)(==.*\n(?: .*\n)*)", re.MULTILINE)
"""Name, and version with hashes."""

StartArtifact: TypeAlias = Callable[[str, Mapping[str, str]], AbstractContextManager[Emulated]]
"""Module and settings → its `entry`, out of the artifact, under Lambda's emulator."""

_numbers = count()


@dataclass(frozen=True, slots=True)
class Runtime:
    """Python 3.13 without site packages, and boto3 beside it."""

    bin: Path
    """A directory with `python`."""
    packages: Path

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    def environment(self, artifact: Path) -> dict[str, str]:
        """All that a process gets to see; add the function's settings. It leaves the artifact as it is."""
        return {
            "PATH": f"{self.bin}:{os.defpath}",
            "PYTHONPATH": f"{artifact}:{self.packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NEARVOTE_MODEL_DIR": str(artifact / "model"),
        }


@pytest.fixture(scope="session")
def artifact() -> Path:
    """The artifact for this machine's architecture, unzipped. Nobody may write into it."""
    tree = ROOT / "build" / f"lambda-{ARCH}"
    package.build(ARCH, tree, bytecode.find_python())
    return tree


@pytest.fixture(scope="session")
def lambda_runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """Skips where the artifact cannot be run."""
    found = bytecode.find_python()
    if sys.platform != "linux" or found is None:
        pytest.skip("the artifact was not run: that takes Linux and a Python 3.13")
    return make_runtime(tmp_path_factory.mktemp("runtime"), found)


@pytest.fixture(scope="session")
def start_artifact(
    lambda_runtime: Runtime, lambda_emulator: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> StartArtifact:
    """Skips where Lambda's part of the runtime, awslambdaric, is not to be had."""
    folder = tmp_path_factory.mktemp("emulated")
    try:
        wheels.install(ARCH, folder / "client", wheels.default_cache(), _client_lock(folder))
    except wheels.BuildError as error:
        pytest.skip(f"the artifact was not run under Lambda's emulator, for want of awslambdaric: {error}")
    base = lambda_runtime.environment(artifact)
    base["PYTHONPATH"] += f":{folder / 'client'}"

    def start(module: str, environment: Mapping[str, str]) -> AbstractContextManager[Emulated]:
        log = folder / f"{module}-{next(_numbers)}.log"
        return emulated(
            lambda_emulator, lambda_runtime.python, artifact, f"{module}.entry", {**environment, **base}, log
        )

    return start


def make_runtime(directory: Path, python: Path) -> Runtime:
    """As bin/ and packages/ of `directory`."""
    runtime = Runtime(directory / "bin", directory / "packages")
    runtime.bin.mkdir()
    runtime.packages.mkdir()
    wrapper = runtime.bin / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{python}" -S "$@"\n')
    wrapper.chmod(0o755)
    for name in BOTO3:
        module = _module(name)
        (runtime.packages / module.name).symlink_to(module)
    return runtime


def _client_lock(folder: Path) -> Path:
    """The tests' own lock has the hashes of every platform's wheels."""
    lock = folder / "client.lock"
    locked = dict(LOCKED.findall((ROOT / "requirements-dev.lock").read_text()))
    lock.write_text("".join(f"{name}{locked[name]}" for name in CLIENT))
    return lock


def _module(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin)
    return file.parent if file.name == "__init__.py" else file
