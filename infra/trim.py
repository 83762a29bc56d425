"""What of the wheels a function does not need. Each rule was checked by running what is left."""

import shutil
import struct
from pathlib import Path

from infra.wheels import BuildError

UNUSED = (
    # What pip notes down, differently on each machine.
    "bin",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/sboms",
    # What is there for tests, type checkers and compilers.
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.[ach]",
    "numpy/f2py",
    "numpy/_core/_*_tests.*.so",
    "numpy/_core/_simd.*.so",
    "multidict/_testcapi.*.so",
    # What makes and changes models. The module links none of the C library beside it.
    "onnxruntime/capi/libonnxruntime.so.*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "faiss/contrib",
    # fastembed imports the hub's client and PIL for models that are not ours.
    "huggingface_hub/cli",
    "huggingface_hub/inference",
    "PIL/*ImagePlugin.py",
    "PIL/_avif.*.so",
    "PIL/_imagingcms.*.so",
    "PIL/_imagingft.*.so",
    "PIL/_imagingtk.*.so",
    "PIL/_webp.*.so",
    "pillow.libs/libavif-*",
    "pillow.libs/libbrotli*",
    "pillow.libs/libfreetype-*",
    "pillow.libs/libharfbuzz-*",
    "pillow.libs/liblcms2-*",
    "pillow.libs/libpng16-*",
    "pillow.libs/libsharpyuv-*",
    "pillow.libs/libwebp*",
)

ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
E_PHOFF, E_SHOFF, E_PHENTSIZE, E_SHENTSIZE = 32, 40, 54, 58
"""Where a file's header says where its tables are."""


def trim(tree: Path) -> None:
    """Raises BuildError for a rule that finds nothing: what it dropped may be elsewhere now."""
    for rule in UNUSED:
        found = sorted(tree.glob(rule))
        if not found:
            raise BuildError(f"infra/trim.py drops {rule!r}, but the wheels have no such thing any more")
        for path in found:
            _remove(path)
    for library in sorted(tree.rglob("*.so*")):
        library.write_bytes(loaded_part(library.read_bytes()))


def loaded_part(library: bytes) -> bytes:
    """A shared library without what only debuggers and linkers read: a tenth of the whole tree. It ends after the
    last segment that is loaded, and has no table of sections."""
    if not library.startswith(ELF64_LITTLE_ENDIAN):
        raise BuildError("a .so file is no shared library for Lambda")
    table, (size, count) = _unpack("Q", library, E_PHOFF)[0], _unpack("HH", library, E_PHENTSIZE)
    # Fields 2 and 5 of a segment: its place in the file and its length there.
    segments = [_unpack("IIQQQQQQ", library, table + number * size) for number in range(count)]
    end = max(table + count * size, *(segment[2] + segment[5] for segment in segments))
    kept = bytearray(library[:end])
    struct.pack_into("<Q", kept, E_SHOFF, 0)
    struct.pack_into("<HHH", kept, E_SHENTSIZE, 0, 0, 0)
    return bytes(kept)


def _unpack(fields: str, data: bytes, place: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{fields}", data, place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
