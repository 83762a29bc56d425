"""The measured outcomes that routing is judged on. They lie outside this repository, and are never copied into it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handler.control.embedding import LazyEmbedder
from index import structure
from index.types import Floats
from scripts import model_files
from scripts.evaluation import outcomes as measured
from scripts.evaluation.outcomes import Outcomes
from scripts.evaluation.upload import Prompts
from scripts.evaluation.vectors import cache_folder, embed
from scripts.output import say

MMLU = "mmlu-2models.csv.gz"
GSM8K = "gsm8k-2models.csv.gz"
ZEROEVAL = "zeroeval-28models.csv.gz"
WORKERS = 2


class Missing(Exception):
    """The benchmark has nothing to measure on; the text says what is not there."""


@dataclass(frozen=True, slots=True)
class Sources:
    mmlu: Prompts
    gsm8k: Prompts
    zeroeval: Prompts


def read(folder: Path) -> Sources:
    """Raises Missing, naming every file that is not there; and BadUpload, ModelFilesMissing."""
    missing = [name for name in (MMLU, GSM8K, ZEROEVAL) if not (folder / name).is_file()]
    if missing:
        raise Missing(
            f"{folder} has no {', '.join(missing)}: this benchmark needs measured outcomes, which are not part of this"
            " repository; say by --data where they are"
        )
    embedder = _embedder()
    return Sources(*(_prompts(folder / name, embedder) for name in (MMLU, GSM8K, ZEROEVAL)))


def embed_texts(texts: Sequence[str]) -> Floats:
    """float32 [len(texts), 384], from the cache if they are there. Raises ModelFilesMissing."""
    return embed(texts, _embedder(), cache_folder(os.environ))


def joined(one: Prompts, other: Prompts) -> Prompts:
    """Both, one after the other; they have the same models."""
    left, right = one.outcomes, other.outcomes
    both = Outcomes(
        left.prompts + right.prompts,
        left.tasks + right.tasks,
        left.models,
        np.concatenate([left.scores, right.scores[:, [right.models.index(model) for model in left.models]]]),
        left.duplicates + right.duplicates,
    )
    return Prompts(
        both,
        np.concatenate([one.vectors, other.vectors]),
        np.concatenate([one.structures, other.structures]),
        one.fingerprint,
    )


def _embedder() -> LazyEmbedder:
    return LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), WORKERS)


def _prompts(path: Path, embedder: LazyEmbedder) -> Prompts:
    outcomes = measured.parse(path.read_bytes())
    vectors = embed(outcomes.prompts, embedder, cache_folder(os.environ))
    return Prompts(outcomes, vectors, structure.describe_all(outcomes.prompts), embedder.fingerprint)
