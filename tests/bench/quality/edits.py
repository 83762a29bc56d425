"""No retraining: a model goes, or comes, and the next decision knows. Each edit beside a rebuild from scratch."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from tqdm import tqdm

from index import edits
from index.ballot import Ballot, draw_up
from index.directory_store import DirectoryStore
from index.edits import Upload
from index.snapshot import Snapshot
from index.types import Candidate, Floats, Rows
from index.versions import Repository
from scripts.evaluation.contest import Contest
from scripts.evaluation.curves import hull
from scripts.evaluation.judge import Judge
from scripts.evaluation.metrics import aiq
from scripts.evaluation.outcomes import Split, split
from scripts.evaluation.upload import Prompts
from tests.bench.quality.cases import INDEXED_FLEET, SIX, priced
from tests.bench.quality.report import Cell, Part, Table, over
from tests.bench.quality.runs import only_own
from tests.bench.quality.sources import Sources

SEEDS = 3
FEW = 0.05
"""Of the index's examples, those on which the model that comes was measured."""
LIKE = {
    "gpt-4o-mini-2024-07-18": "Meta-Llama-3.1-70B-Instruct",
    "gpt-4o-2024-08-06": "claude-3-5-sonnet-20241022",
    "claude-3-haiku-20240307": "Meta-Llama-3.1-8B-Instruct",
    "claude-3-5-sonnet-20241022": "gpt-4o-2024-08-06",
    "Meta-Llama-3.1-70B-Instruct": "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-8B-Instruct": "claude-3-haiku-20240307",
}
"""What a person would name without having measured the model that comes."""


REBUILT, FEW_KNOWN, ALIKE, BOTH = "rebuilt with it", "(b) 5 % measured", "(c) like", "(b) and (c)"
RETIRED, NEVER = "(a) retired", "rebuilt without it"
WAYS = (REBUILT, FEW_KNOWN, ALIKE, BOTH, RETIRED, NEVER)
NOTE = (
    "{} labels, {} splits; the index holds the outcomes of the fleet's six models alone. (a): the fleet file no longer"
    " has the model; beside an index that never had it. (b): an upload of its outcomes on 5 % of the examples, to an"
    " index that had none; (c): the fleet file says which model it is like, and there are no outcomes; beside an index"
    " built with all its outcomes, and beside doing without the model. {}"
)
QUALITY = "Mean quality over all spends that a fleet without the model can have (AIQ)."
SAVING = "Saving at the quality of the best single model of the fleet at hand, settings mixed."
SECONDS = (
    "From the edit to a ballot that decides by it, on this machine. Nothing is embedded: an upload that only adds"
    " outcomes keeps the vectors, and the rebuild is given them."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One split of one model's coming and going. `prompts` have the outcomes of the contest's models alone."""

    prompts: Prompts
    contest: Contest
    split: Split
    model: str

    @property
    def others(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.contest.candidates if one.name != self.model)

    @property
    def alike(self) -> tuple[Candidate, ...]:
        """All, the model borrowing what it lacks."""
        like = LIKE[self.model]
        return tuple(replace(one, like=like) if one.name == self.model else one for one in self.contest.candidates)


@dataclass(frozen=True, slots=True)
class Made:
    """What a way to a ballot is worth."""

    seconds: float
    aiq: float
    saving: float


def part(sources: Sources, seeds: int | None) -> Part:
    splits = seeds or SEEDS
    models = tqdm(SIX, desc="edits", unit="models", leave=False)
    every = {model: [_made(scene) for scene in _scenes(sources.zeroeval, model, splits)] for model in models}
    labels = round(len(sources.zeroeval.outcomes) * INDEXED_FLEET)
    quality = _table("quality", every, lambda made: made.aiq, NOTE.format(labels, splits, QUALITY))
    saving = _table("saving", every, lambda made: made.saving, NOTE.format(labels, splits, SAVING))
    return Part("Edits", (quality, saving, _seconds([one for made in every.values() for one in made])))


def _scenes(prompts: Prompts, model: str, splits: int) -> Iterator[Scene]:
    own, contest = only_own(prompts, priced(prompts, SIX))
    count = len(own.outcomes)
    for seed in range(splits):
        yield Scene(own, contest, split(count, seed, round(count * INDEXED_FLEET)), model)


def _made(scene: Scene) -> dict[str, Made]:
    """By way."""
    everyone, others = scene.contest.candidates, scene.others
    with TemporaryDirectory(prefix="nearvote-edits-") as folder:
        whole, partial = (Repository(DirectoryStore(Path(folder, name))) for name in ("whole", "partial"))
        found = {
            REBUILT: _timed(scene, lambda: draw_up(_build(scene, whole, everyone), everyone)),
            NEVER: _timed(scene, lambda: draw_up(_build(scene, partial, others), others)),
        }
        held, had = whole.current(), partial.current()
        found[RETIRED] = _timed(scene, lambda: draw_up(held, others))
        found[ALIKE] = _timed(scene, lambda: draw_up(had, scene.alike))
        found[FEW_KNOWN] = _timed(scene, lambda: draw_up(_measure(scene, partial), everyone))
        measured = partial.current()
        found[BOTH] = _timed(scene, lambda: draw_up(measured, scene.alike))
    return found


def _timed(scene: Scene, way: Callable[[], Ballot]) -> Made:
    start = time.perf_counter()
    ballot = way()
    seconds = time.perf_counter() - start
    rows, names = scene.split.rest, [candidate.name for candidate in ballot.candidates]
    columns = np.array([scene.prompts.outcomes.models.index(name) for name in names])
    cost = np.array([candidate.cost for candidate in ballot.candidates])
    predicted = ballot.predict(scene.prompts.vectors[rows], scene.prompts.structures[rows])
    routed = Judge(scene.prompts.outcomes.scores[np.ix_(rows, columns)], cost).predicted(predicted)
    height = aiq(
        hull(routed.settings.spend, routed.settings.quality), scene.others[0].cost, scene.contest.candidates[-1].cost
    )
    return Made(seconds, math.nan if height is None else height, routed.measures.mixed_saving_at_best)


def _build(scene: Scene, repository: Repository, models: Sequence[Candidate]) -> Snapshot:
    """An empty index given all examples, with the outcomes of these models."""
    return _upload(scene, repository, scene.split.index, models)


def _measure(scene: Scene, repository: Repository) -> Snapshot:
    """The same examples again, a few of them, with the outcomes of all models."""
    few = scene.split.index[: max(1, round(len(scene.split.index) * FEW))]
    return _upload(scene, repository, few, scene.contest.candidates)


def _upload(scene: Scene, repository: Repository, rows: Rows, models: Sequence[Candidate]) -> Snapshot:
    outcomes = scene.prompts.outcomes
    vectors = {outcomes.prompts[row]: scene.prompts.vectors[row] for row in rows}
    columns = [(one.name, outcomes.models.index(one.name)) for one in models]
    lines = [
        orjson.dumps(
            {
                "id": f"ex-{row}",
                "prompt": outcomes.prompts[row],
                "task": outcomes.tasks[row],
                "scores": {name: float(outcomes.scores[row, column]) for name, column in columns},
            }
        )
        for row in rows
    ]

    def embed(prompts: Sequence[str]) -> Floats:
        return np.array([vectors[prompt] for prompt in prompts], np.float32)

    upload = Upload(b"\n".join(lines), "measured.jsonl", replace=True)
    return edits.add(repository, upload, models, embed, scene.prompts.fingerprint, "measured").snapshot


def _table(
    what: str, every: Mapping[str, Sequence[Mapping[str, Made]]], of: Callable[[Made], float], note: str
) -> Table:
    def cells(made: Sequence[Mapping[str, Made]]) -> Iterator[Cell]:
        return (over([of(one[way]) for one in made]) for way in WAYS)

    rows = [(model, LIKE[model], *cells(made)) for model, made in every.items()]
    means = (float(np.mean([of(one[way]) for made in every.values() for one in made])) for way in WAYS)
    return Table(f"Edits: {what}", ("model", "like", *WAYS), (*rows, ("mean", None, *means)), note)


def _seconds(made: Sequence[Mapping[str, Made]]) -> Table:
    rows = []
    for way in (one for one in WAYS if one != BOTH):  # the seconds of (b)
        took = [one[way].seconds for one in made]
        rows.append((way, float(np.median(took)), max(took)))
    return Table("Edits: seconds", ("way", "median", "slowest"), tuple(rows), SECONDS)
