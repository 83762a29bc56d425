"""The machine that is measured on: its cores, and who runs on which."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

CAN_PIN = sys.platform == "linux"
CORES = tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else tuple(range(os.cpu_count() or 1))
"""That this process may use, when it starts."""
MEASURED = CORES[0]
"""Runs what is measured."""
OTHER = CORES[-1]
"""Runs what is not: load and upstream. The same core where there is but one."""


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This thread, and the threads and processes that it starts meanwhile, run on one core, where the system can."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> str:
    load = os.getloadavg()[0]
    python = platform.python_version()
    pinning = "" if CAN_PIN else ", NOT pinned: this system cannot"
    return f"{len(CORES)} cores of {_processor()}, Python {python}, load {load:.2f} before the start{pinning}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.machine()
