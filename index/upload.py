"""An upload's bytes → numbered rows and faults: gzip, UTF-8, JSON lines, CSV. Knows nothing of models."""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from index.errors import BadUpload
from index.types import Fault

MAX_UNPACKED_BYTES = 512 * 2**20
MAX_LINE_BYTES = 8 * 2**20

FIELDS = ("prompt", "id", "task", "model", "only")
"""CSV columns with a meaning of their own; every other column is a model's score."""

_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FIRST_CHARACTER = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\S)")
_CHUNK_BYTES = 2**20
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")

Objection: TypeAlias = Callable[[str], str | None]
"""A model's name → why it cannot be taken, or None."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record as written, before its values are checked."""

    line: int
    """The physical line on which it starts, from 1."""
    fields: Mapping[str, object]


def unpack(data: bytes, limit: int = MAX_UNPACKED_BYTES) -> bytes:
    """The text's bytes, out of gzip if they begin like gzip. Raises BadUpload for gzip that is corrupt or
    unpacks to more than `limit` bytes."""
    if not data.startswith(_GZIP_MAGIC):
        return data
    unpacked = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if unpacked.tell() + len(chunk) > limit:
                    raise BadUpload([Fault(0, f"unpacks to more than {limit:,} bytes")])
                unpacked.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise BadUpload([Fault(0, f"corrupt gzip: {error}")]) from error
    return unpacked.getvalue()


def count_lines(text: bytes) -> int:
    """Physical lines; the last one needs no newline."""
    unended = bool(text) and not text.endswith(b"\n")
    return text.count(b"\n") + unended


def rows(text: bytes, name: str, objection: Objection) -> Iterator[Row | Fault]:
    """Every record, or why it is none, in order. The suffix of the file's `name` tells CSV from JSON lines,
    else the first character does. A CSV column with an `objection` is a fault of the header's line, and its
    cells are left out."""
    return _json_rows(text) if _is_json(text, name) else _csv_rows(text, objection)


def _is_json(text: bytes, name: str) -> bool:
    stem = name.lower().removesuffix(".gz")
    if stem.endswith((*_JSON_SUFFIXES, ".csv")):
        return stem.endswith(_JSON_SUFFIXES)
    first = _FIRST_CHARACTER.match(text)
    return first is None or first[1] in b"{["


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(io.BytesIO(text), 1):
        yield number, line.removeprefix(_BOM) if number == 1 else line


def _unreadable(line: bytes) -> str | None:
    """Why a physical line is not text that can be read."""
    if len(line) > MAX_LINE_BYTES:
        return f"over-long: {len(line):,} bytes, at most {MAX_LINE_BYTES:,} a line"
    try:
        control = _CONTROL.search(line.decode())
    except UnicodeDecodeError:
        return "binary: not UTF-8 text"
    return f"binary: control character U+{ord(control.group()):04X}" if control else None


def _json_rows(text: bytes) -> Iterator[Row | Fault]:
    for number, line in _lines(text):
        if reason := _unreadable(line):
            yield Fault(number, reason)
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row | Fault:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Fault(number, f"not JSON: {error.msg}, column {error.colno}")
    if not isinstance(fields, dict):
        return Fault(number, "not a JSON object")
    return Row(number, fields)


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    cells: Sequence[str]


def _csv_rows(text: bytes, objection: Objection) -> Iterator[Row | Fault]:
    records = _csv_records(text)
    header = next(records, Fault(1, "no CSV header"))
    if isinstance(header, Fault):
        yield header
        return
    columns = [name.strip() for name in header.cells]
    if reason := _header_fault(columns):
        yield Fault(header.line, reason)
        return
    objections = {name: reason for name in columns if name not in FIELDS and (reason := objection(name))}
    yield from (Fault(header.line, f"column {reason}") for reason in objections.values())
    for record in records:
        yield record if isinstance(record, Fault) else _csv_row(record, columns, objections.keys())


def _csv_records(text: bytes) -> Iterator[_Record | Fault]:
    # The csv module's own limit is 128 KiB a field, for the whole process; a prompt may be longer.
    csv.field_size_limit(MAX_LINE_BYTES)
    unreadable: list[str] = []
    reader = csv.reader(_csv_lines(text, unreadable), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unreadable.append(f"not CSV: {error}")
        if unreadable:
            yield Fault(line, unreadable[0])
            unreadable.clear()
        elif any(cell.strip() for cell in cells):
            yield _Record(line, cells)


def _csv_lines(text: bytes, unreadable: list[str]) -> Iterator[str]:
    """Lines for the csv reader. Of one that cannot be read only an unpaired quote is passed on, so that the
    records after it keep their place; its reason goes to `unreadable`."""
    for _, line in _lines(text):
        if reason := _unreadable(line):
            unreadable.append(reason)
            yield '"' * (line.count(b'"') % 2) + "\n"
        else:
            yield line.decode()


def _header_fault(columns: Sequence[str]) -> str | None:
    if "prompt" not in columns:
        return "no CSV header: the first line has to name a `prompt` column"
    twice = [name for name, count in Counter(columns).items() if count > 1]
    return f"column {twice[0][:64]!r} is there more than once" if twice else None


def _csv_row(record: _Record, columns: Sequence[str], left_out: Container[str]) -> Row | Fault:
    if len(record.cells) != len(columns):
        return Fault(record.line, f"{len(record.cells)} cells, but the header names {len(columns)} columns")
    filled = {name: cell for name, cell in zip(columns, record.cells, strict=True) if cell.strip()}
    fields: dict[str, object] = {
        name: cell if name == "prompt" else cell.strip() for name, cell in filled.items() if name in FIELDS
    }
    scores = {name: _number(cell) for name, cell in filled.items() if name not in FIELDS and name not in left_out}
    if scores:
        fields["scores"] = scores
    return Row(record.line, fields)


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
