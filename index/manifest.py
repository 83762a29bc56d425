"""One version as a value, and ↔ bytes."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated

import orjson
from pydantic import PlainValidator, TypeAdapter, ValidationError

from index import fit_json
from index.errors import Damaged
from index.fit import Fit
from index.types import VoteParams

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment of a version, and which of its rows this version no longer counts."""

    id: str
    rows: int
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One immutable version of the index."""

    number: int
    """1 for the first version, then one more than the parent's."""
    parent: str | None
    created_at: str
    """UTC, ISO 8601."""
    message: str
    fingerprint: str
    """Of the embedder whose vectors the segments hold."""
    segments: tuple[SegmentRef, ...] = ()
    params: VoteParams = field(default_factory=VoteParams)
    peers: str | None = None
    """The object that holds its examples' nearest others."""
    fit: Annotated[Fit | None, PlainValidator(fit_json.from_json)] = None
    """For the fleet at the time it was made; None where none was known, or where it must be found anew."""

    @property
    def examples(self) -> int:
        return sum(ref.rows - len(ref.dropped) for ref in self.segments)


_MANIFEST = TypeAdapter(Manifest)


def to_bytes(manifest: Manifest) -> bytes:
    """The same manifest always gives the same bytes."""
    fit = None if manifest.fit is None else fit_json.to_json(manifest.fit)
    return orjson.dumps({"format": FORMAT, **asdict(replace(manifest, fit=None)), "fit": fit})


def from_bytes(data: bytes, version: str) -> Manifest:
    """Raises Damaged where the bytes are no manifest, or one that cannot be read here."""
    fields = read_json(data, f"version {version}")
    if fields.pop("format", None) != FORMAT:
        raise Damaged(f"version {version} is of a format that this nearvote cannot read")
    try:
        return _MANIFEST.validate_python(fields)
    except ValidationError as error:
        raise Damaged(f"version {version} is no manifest: {error}") from error


def read_json(data: bytes, what: str) -> dict[str, object]:
    """Raises Damaged."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Damaged(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise Damaged(f"{what} is not a JSON object")
    return value
