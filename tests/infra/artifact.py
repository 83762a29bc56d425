"""pytest plugin: what Lambda gets, built once, and what stands for Lambda's own Python here."""

import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import bytecode, package

ROOT = Path(__file__).parents[2]
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
"""This machine's, so that what is built can be run."""
BOTO3 = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six")
"""What the runtime brings."""


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
    runtime = Runtime(tmp_path_factory.mktemp("bin"), tmp_path_factory.mktemp("packages"))
    wrapper = runtime.bin / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{found}" -S "$@"\n')
    wrapper.chmod(0o755)
    for name in BOTO3:
        module = _module(name)
        (runtime.packages / module.name).symlink_to(module)
    return runtime


def _module(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin)
    return file.parent if file.name == "__init__.py" else file
