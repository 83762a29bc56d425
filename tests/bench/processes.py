"""What a running process and those that it started hold, as Linux tells it; None where there is no /proc."""

import os
from pathlib import Path

PROC = Path("/proc")


def resident_mb(pid: int) -> float | None:
    """Of the process and all below it, in millions of bytes; what they share is counted for each."""
    if not PROC.is_dir():
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return round(sum(_resident_pages(one) for one in tree(pid)) * page / 1e6, 1)


def open_files(pid: int) -> int | None:
    """Descriptors of this process alone, sockets included."""
    descriptors = PROC / str(pid) / "fd"
    return len(list(descriptors.iterdir())) if descriptors.is_dir() else None


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        children.setdefault(_parent(stat), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:  # grows meanwhile
        found += children.get(one, [])
    return found


def _parent(stat: Path) -> int:
    """0 for a process that has ended meanwhile."""
    try:
        text = stat.read_text()
    except OSError:
        return 0
    # The name, in brackets, may hold anything; the state and the parent follow it.
    return int(text.rpartition(")")[2].split()[1])


def _resident_pages(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return 0
