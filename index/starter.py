"""The examples that a new index starts with: our own, and measured ones, which are vectors and outcomes without text.

The measured ones are drawn from published runs (the NOTICE in their file names them) and speak of the tiers small,
medium and large. They are few beside our own: exam questions must not drown what people ask day by day.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from index.errors import Damaged
from index.examples import Catalog, parse
from index.segment import UNREADABLE, Segment
from index.structure import NAMES, RECIPE
from index.types import Example, Floats

OWN = Path(__file__).with_name("starter.jsonl")
MEASURED = Path(__file__).with_name("starter-measured.npz")
OWN_SOURCE = "nearvote's starter examples"

_TINY = 1e-6


def own() -> tuple[Example, ...]:
    examples = parse(OWN.read_bytes(), Catalog(()), name=OWN.name).examples
    return tuple(replace(example, source=OWN_SOURCE) for example in examples)


def measured(fingerprint: str) -> Segment | None:
    """None where another embedder made their vectors: without their text they cannot be embedded anew."""
    return unpack(MEASURED.read_bytes(), fingerprint)


def pack(segment: Segment, fingerprint: str, notice: str) -> bytes:
    """The same segment always gives the same bytes. Texts and labels are left out, vectors and structure are kept as
    float16: it moves a cosine by less than 0.0001, where int8 moves it by up to 0.004 and one decision in a
    hundred."""
    about = orjson.dumps(
        {
            "notice": notice,
            "embedder": fingerprint,
            "structure": RECIPE,
            "ids": segment.ids,
            "tasks": segment.tasks,
            "sources": segment.sources,
            "models": segment.models,
        }
    )
    file = io.BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        about=np.frombuffer(about, dtype=np.uint8),
        scores=segment.scores,
        vectors=segment.vectors.astype(np.float16),
        structure=segment.structure.astype(np.float16),
    )
    return file.getvalue()


def unpack(data: bytes, fingerprint: str) -> Segment | None:
    """None where another embedder made the vectors. Raises Damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            about = orjson.loads(arrays["about"].tobytes())
            if about["embedder"] != fingerprint:
                return None
            count = len(about["ids"])
            structure = arrays["structure"].astype(np.float32)
            return Segment(
                tuple(about["ids"]),
                ("",) * count,
                tuple(about["tasks"]),
                (None,) * count,
                tuple(about["models"]),
                arrays["scores"],
                _unit(arrays["vectors"].astype(np.float32)),
                structure if about["structure"] == RECIPE else np.full((count, len(NAMES)), np.nan, np.float32),
                tuple(about["sources"]),
            )
    except UNREADABLE as error:
        raise Damaged(f"the measured examples cannot be read: {error}") from error


def _unit(vectors: Floats) -> Floats:
    """float16 takes them a little off the sphere."""
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
    return unit
