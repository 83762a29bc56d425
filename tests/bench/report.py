"""What a benchmark found: rows for a table, and how they stand to what was aimed at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scripts.output import table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    measured: float
    at_most: float

    @property
    def met(self) -> bool:
        return self.measured <= self.at_most


@dataclass(frozen=True, slots=True)
class Report(Generic[Row]):
    title: str
    conditions: str
    rows: tuple[Row, ...]
    aims: tuple[Aim, ...] = ()


def as_json(report: Report[Any]) -> dict[str, Any]:
    return {**asdict(report), "aims": [{**asdict(aim), "met": aim.met} for aim in report.aims]}


def as_text(report: Report[Any]) -> str:
    columns = [field.name for field in fields(report.rows[0])]
    aims = [
        f"{'met' if aim.met else 'MISSED'}: {aim.what}: {aim.measured:g}, aim at most {aim.at_most:g}"
        for aim in report.aims
    ]
    return "\n".join([report.title, report.conditions, "", _table(report.rows, columns), *aims])


def _table(rows: Sequence["DataclassInstance"], columns: Sequence[str]) -> str:
    return table([asdict(row) for row in rows], columns)
