"""Memory and descriptors of processes that a test starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.processes import open_files, resident_mb, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the figures are Linux's")

HOLDING = """
import subprocess, sys
held = b"x" * 30_000_000
below = subprocess.Popen([sys.executable, "-c", "held = b'x' * 30_000_000; print(flush=True); input()"])
below.wait()
"""


def test_the_memory_of_a_process_is_that_of_all_below_it() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        both = tree(process.pid)
        assert (len(both), both[0]) == (2, process.pid)
        all_of_it, lower = resident_mb(process.pid), resident_mb(both[1])
        assert all_of_it is not None
        assert lower is not None
        assert lower > 30
        assert all_of_it - lower > 30
        process.communicate(b"\n")


def test_what_is_gone_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert (resident_mb(process.pid), open_files(process.pid)) == (0.0, None)


def test_open_files_are_counted(tmp_path: Path) -> None:
    before = open_files(os.getpid())
    assert before is not None
    with (tmp_path / "file").open("w"):
        assert open_files(os.getpid()) == before + 1
