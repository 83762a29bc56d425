"""How commands print: JSON for programs, short tables for people."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WIDTH = 100


def show(value: Any, as_json: bool, text: str) -> None:
    print(to_json(value) if as_json else text)


def to_json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Left-aligned columns under their names; long cells are cut."""
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def say(text: str) -> None:
    """To people, beside the output proper."""
    print(text, file=sys.stderr, flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(map(str, value)) or "-"
    line = " ".join(str(value).split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
