"""A tree → a zip that is the same, byte for byte, whenever and wherever the tree is."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
EPOCH_S = 315_532_800.0
PROGRAMS = ("run.sh",)


def files(tree: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its name in the artifact, in order."""
    yield from sorted((path.relative_to(tree).as_posix(), path) for path in tree.rglob("*") if path.is_file())


def settle(tree: Path) -> None:
    """Give everything in the tree the mode and time that depend on its name alone."""
    for path in (*tree.rglob("*"), tree):
        program = path.is_dir() or path.relative_to(tree).as_posix() in PROGRAMS
        path.chmod(0o755 if program else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))


def write_zip(tree: Path, target: Path) -> None:
    """Of a settled tree. The zip appears whole or not at all."""
    draft = target.with_name(f".{target.name}.draft")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in files(tree):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, whose modes these are
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0xFFFF) << 16
            archive.writestr(entry, path.read_bytes())
    draft.replace(target)
