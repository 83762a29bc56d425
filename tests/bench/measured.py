"""Draws the measured half of the starter index from published outcomes.

`python -m tests.bench.measured DATA` reads DATA/{mmlu,gsm8k}-2models.csv.gz and zeroeval-28models.csv.gz (prompt,
task, a 0/1 column a model) and writes index/starter-measured.npz. No text of theirs gets into it.
"""

import argparse
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handler.control.embedding import LazyEmbedder
from index import segment as segments
from index import starter
from index.segment import Segment
from index.structure import describe_all
from index.types import TIERS, Example, Floats, Rows
from scripts import model_files
from scripts.embedding import embed_with_bar
from scripts.evaluation.outcomes import parse
from scripts.output import say

FILES = {
    "mmlu-2models.csv.gz": "RouteLLM's published responses",
    "gsm8k-2models.csv.gz": "RouteLLM's published responses",
    "zeroeval-28models.csv.gz": "ZeroEval",
}
SETS = {"mmlu": "MMLU", "gsm8k": "GSM8K", "crux": "CRUXEval", "math-l5": "MATH level 5"}
"""Task, or what stands before its colon → the set that it is drawn from."""
SAME_TASK = {"gsm": "gsm8k"}
"""ZeroEval's name → ours: both published runs answered the same questions."""

# By what they were sold as when they were run: small ones their makers' smallest or nearly so, large ones their best,
# medium ones between. Several of each, from several makers, so that a tier is no single model's quirks.
TIER_OF = {
    "mixtral-8x7b-instruct": "small",
    "gpt-4o-mini-2024-07-18": "small",
    "claude-3-haiku-20240307": "small",
    "Meta-Llama-3.1-8B-Instruct": "small",
    "gemma-2-9b-it": "small",
    "Meta-Llama-3.1-70B-Instruct": "medium",
    "claude-3-5-haiku-20241022": "medium",
    "Mistral-Large-2": "medium",
    "gpt-4-1106-preview": "large",
    "gpt-4o-2024-08-06": "large",
    "claude-3-5-sonnet-20241022": "large",
    "o1-mini-2024-09-12": "large",
}
EXAMPLES = 400
"""Two for every three of our own. More would predict exam questions hardly better, and route our own otherwise: see
tests.bench.starter_effect."""
SEED = 0
WORKERS = 2
NOTICE = (
    "Outcomes of MMLU and GSM8K by RouteLLM (responses published under Apache-2.0) and of GSM8K, CRUXEval and MATH "
    "level 5 derived from ZeroEval's published runs (Apache-2.0). Each outcome is the mean over the models of a tier "
    "that were run on the prompt. Vectors are embeddings of the prompts, whose text is not here."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """n different prompts."""

    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    sources: tuple[str, ...]
    scores: Floats
    """[n, 3], in the order of TIERS; NaN where no model of the tier was run."""

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class _Run:
    """What one file says of one prompt."""

    prompt: str
    task: str
    publisher: str
    scores: Mapping[str, float]


def read(folder: Path) -> Measured:
    """Prompts that differ in blanks alone are one."""
    found: dict[str, list[_Run]] = {}
    for name, publisher in FILES.items():
        for run in _runs(folder / name, publisher):
            found.setdefault(" ".join(run.prompt.split()), []).append(run)
    runs = list(found.values())
    return Measured(
        tuple(same[0].prompt for same in runs),
        tuple(same[0].task for same in runs),
        tuple(_source(same) for same in runs),
        np.array([_tiers(same) for same in runs], np.float32),
    )


def _runs(path: Path, publisher: str) -> Iterator[_Run]:
    outcomes = parse(path.read_bytes())
    for prompt, task, scores in zip(outcomes.prompts, outcomes.tasks, outcomes.scores, strict=True):
        known = {model: float(score) for model, score in zip(outcomes.models, scores, strict=True) if score == score}
        yield _Run(prompt, SAME_TASK.get(task, task), publisher, known)


def _source(same: Sequence[_Run]) -> str:
    return f"{SETS[set_of(same[0].task)]} ({'; '.join(dict.fromkeys(run.publisher for run in same))})"


def _tiers(same: Sequence[_Run]) -> list[float]:
    scores = [(TIER_OF.get(model), score) for run in same for model, score in run.scores.items()]
    of_tiers = ([score for tier, score in scores if tier == wanted] for wanted in TIERS)
    return [float(np.mean(known)) if known else np.nan for known in of_tiers]


def set_of(task: str) -> str:
    return task.partition(":")[0]


def sample(measured: Measured, pool: Rows, count: int, seed: int) -> Rows:
    """As many rows of each set, and within a set of each of its tasks, as there are, in the pool's random order. Evenly
    over tasks alone would be MMLU almost only, which has 57 of the 60."""
    queues: dict[str, dict[str, list[int]]] = {}
    for row in np.random.default_rng(seed).permutation(pool).tolist():
        queues.setdefault(set_of(measured.tasks[row]), {}).setdefault(measured.tasks[row], []).append(row)
    in_turn = _take_turns([_take_turns(list(tasks.values())) for _, tasks in sorted(queues.items())])
    return np.array(in_turn[:count], np.int64)


def _take_turns(queues: Sequence[Sequence[int]]) -> list[int]:
    """First the first of each, then the second of each that has one …"""
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def segment(measured: Measured, rows: Rows, vectors: Floats) -> Segment:
    """`vectors` [len(rows), 384], of these rows' prompts."""
    prompts = [measured.prompts[row] for row in rows]
    examples = [
        Example(
            f"{measured.tasks[row]}-{hashlib.sha256(measured.prompts[row].encode()).hexdigest()[:8]}",
            "",
            {tier: float(score) for tier, score in zip(TIERS, measured.scores[row], strict=True) if score == score},
            task=measured.tasks[row],
            source=measured.sources[row],
        )
        for row in rows
    ]
    return segments.from_examples(examples, vectors, describe_all(prompts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.measured", description=__doc__)
    parser.add_argument("data", type=Path, help="the directory of the published outcomes")
    parser.add_argument("--out", type=Path, default=starter.MEASURED)
    options = parser.parse_args()
    measured = read(options.data)
    rows = sample(measured, np.arange(len(measured)), EXAMPLES, SEED)
    embedder = LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), WORKERS)
    vectors = embed_with_bar(embedder, [measured.prompts[row] for row in rows])
    options.out.write_bytes(starter.pack(segment(measured, rows, vectors), embedder.fingerprint, NOTICE))
    say(f"{options.out}: {len(rows)} of {len(measured):,} prompts, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
