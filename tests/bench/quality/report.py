"""What a part of the benchmark found: tables, and how they stand to what was aimed at. As Markdown, and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over splits."""

    mean: float
    error: float | None
    """Standard error; None for one split."""


Cell: TypeAlias = str | int | float | Estimate | None


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    measured: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


@dataclass(frozen=True, slots=True)
class Part:
    title: str
    tables: tuple[Table, ...]
    aims: tuple[Aim, ...] = ()


def over(values: Sequence[float]) -> Estimate:
    """Of one value a split."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), error)


def as_text(part: Part) -> str:
    """Markdown."""
    return "\n\n".join([f"## {part.title}", *map(_table, part.tables), *_aims(part.aims)])


def as_json(part: Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "tables": [
            {
                "title": table.title,
                "note": table.note,
                "rows": [dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows],
            }
            for table in part.tables
        ],
        "aims": [
            {"what": aim.what, "measured": aim.measured, "bound": aim.bound, "at_least": aim.at_least, "met": aim.met}
            for aim in part.aims
        ],
    }


def _table(table: Table) -> str:
    lines = [
        _line(table.columns),
        _line(["---"] * len(table.columns)),
        *(_line(map(_shown, row)) for row in table.rows),
    ]
    return "\n".join([f"### {table.title}", *(["", table.note] if table.note else []), "", *lines])


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _aims(aims: Sequence[Aim]) -> list[str]:
    lines = [
        f"- {'met' if aim.met else 'MISSED'}: {aim.what}: {aim.measured:.4f},"
        f" aim {'at least' if aim.at_least else 'at most'} {aim.bound:g}"
        for aim in aims
    ]
    return ["\n".join(lines)] if lines else []


def _shown(cell: Cell) -> str:
    if isinstance(cell, Estimate):
        return f"{cell.mean:.3f}" if cell.error is None else f"{cell.mean:.3f} ±{cell.error:.3f}"
    if isinstance(cell, float):
        return "-" if np.isnan(cell) else f"{cell:.3f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell if cell is not None else "-"


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return {"mean": cell.mean, "standard_error": cell.error}
    return None if isinstance(cell, float) and np.isnan(cell) else cell
