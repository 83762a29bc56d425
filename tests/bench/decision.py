"""How long a decision takes, beside the model alone over the same tokens, on one core.

A decision is Decider.decide: choosing candidates, the hop to the embedder's thread and back, cutting, tokenizing,
embedding, search, vote and dial. The bare run gets token ids that were made before its clock started.
"""

import asyncio
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from handler import fleet as fleets
from handler.data.decide import Decider
from handler.data.live import Live
from handler.data.outlook import look_ahead
from handler.data.sessions import Recalled
from handler.data.speeds import Speeds
from handler.flow import Ask, Cause, Preferences, Prompt
from handler.keys import KeyRecord, Routing
from index.ballot import draw_up
from index.embedder import MODEL_FILE, Embedder
from index.store import open_store
from index.types import Floats
from index.versions import Repository
from tests.bench.local_server import add_starter_examples, model_directory
from tests.bench.machine import MEASURED, pinned
from tests.bench.prompts import Prompts
from tests.bench.report import Aim, Report
from tests.bench.stats import ratio, summarize

LENGTHS = (32, 128, 8000)
OUTPUT_TOKENS = 500
MOST_SECONDS = 300.0
RATIO_AIM = 1.10
P95_AIM_MS = 40.0


@dataclass(frozen=True, slots=True)
class Row:
    prompt_tokens: int
    embedded_tokens: int
    calls: int
    decision_p50_ms: float
    decision_p95_ms: float
    bare_p50_ms: float
    bare_p95_ms: float
    ratio_of_medians: float


@dataclass(slots=True)
class Timings:
    """Of one prompt length; seconds."""

    embedded_tokens: int = 0
    decisions: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


class BareModel:
    """The same file in onnxruntime, set up as fastembed does, with nothing around it."""

    def __init__(self, model_dir: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model_dir / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def inputs(self, text: str) -> dict[str, Any]:
        ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def run(self, inputs: dict[str, Any]) -> Any:
        return self._session.run(None, inputs)[0]

    def vector(self, text: str) -> Floats:
        first: Floats = self.run(self.inputs(text))[0, 0]
        unit: Floats = first / np.linalg.norm(first)
        return unit


class Race:
    """Decisions and bare runs over the same prompts, in turns."""

    def __init__(self, model_dir: Path, embedder: Embedder, decider: Decider, live: Live) -> None:
        self._prompts = Prompts(model_dir)
        self._bare = BareModel(model_dir)
        self._embedder = embedder
        self._decider = decider
        self._live = live
        self._speeds = Speeds(None)
        self._key = KeyRecord(name="bench", id="0" * 12, digest="0" * 64, created_at="", routing=Routing.ON)

    async def run(self, calls: int, warm_up: int, seconds: float) -> dict[int, Timings]:
        """At most so many calls for each length, in at most so many seconds."""
        await self._rounds(warm_up, seconds / 10)
        self._check_same_tokens()
        return await self._rounds(calls, seconds)

    async def _rounds(self, rounds: int, seconds: float) -> dict[int, Timings]:
        timings = {length: Timings() for length in LENGTHS}
        deadline = time.perf_counter() + seconds
        for number in range(rounds):
            if number and time.perf_counter() > deadline:
                break
            for length, timed in timings.items():
                await self._turn(length, timed, decision_first=number % 2 == 0)
        return timings

    async def _turn(self, length: int, timed: Timings, decision_first: bool) -> None:
        text = self._prompts.make(length)
        inputs = self._bare.inputs(self._embedder.cut(text))
        timed.embedded_tokens = inputs["input_ids"].size
        if decision_first:
            timed.decisions.append(await self._decision(text, length))
        timed.bare.append(self._bare_run(inputs))
        if not decision_first:
            timed.decisions.append(await self._decision(text, length))

    async def _decision(self, text: str, tokens: int) -> float:
        ask = Ask("auto", False, Prompt(text, tokens, OUTPUT_TOKENS), Preferences(), {})
        started = time.perf_counter()
        outlook = look_ahead(ask, self._live.fleet.fleet.models, Recalled(), self._speeds, started)
        decision = await self._decider.decide(ask, self._key, self._live, outlook)
        seconds = time.perf_counter() - started
        if decision.cause not in (Cause.VOTE, Cause.UNFAMILIAR):
            raise RuntimeError(f"nothing was embedded: {decision.cause}")
        return seconds

    def _bare_run(self, inputs: dict[str, Any]) -> float:
        started = time.perf_counter()
        self._bare.run(inputs)
        return time.perf_counter() - started

    def _check_same_tokens(self) -> None:
        text = self._prompts.make(max(LENGTHS))
        if not np.allclose(self._bare.vector(self._embedder.cut(text)), self._embedder.embed(text), atol=1e-5):
            raise RuntimeError("the bare run does not embed what the embedder embeds")


def measure(calls: int = 200, warm_up: int = 20, examples: int | None = None) -> Report[Row]:
    """`examples`: how many of the starter index; all by default."""
    # All of it on one core from the start: thread pools are sized when they are first used.
    with pinned(MEASURED), tempfile.TemporaryDirectory(prefix="nearvote-bench-") as home:
        model_dir = model_directory()
        embedder = Embedder(model_dir)
        live = _live(home, embedder, examples)
        with closing(Decider(embedder, workers=1, waiting=0)) as decider:
            race = Race(model_dir, embedder, decider, live)
            timings = asyncio.run(race.run(calls, warm_up, MOST_SECONDS))
    rows = tuple(_row(length, timed) for length, timed in timings.items())
    return Report(
        "The decision, beside the bare model over the tokens that are embedded",
        f"one core, one embedding thread, {live.ballot and len(live.ballot.snapshot)} examples, "
        f"prompts that were never seen before",
        rows,
        (
            Aim("largest ratio of medians", max(row.ratio_of_medians for row in rows), RATIO_AIM),
            Aim("largest p95 of a decision, ms", max(row.decision_p95_ms for row in rows), P95_AIM_MS),
        ),
    )


def _live(home: str, embedder: Embedder, examples: int | None) -> Live:
    store = open_store(home)
    add_starter_examples(store, embedder, examples)
    stored = store.get(fleets.KEY)
    assert stored is not None
    fleet = fleets.parse(stored.data)
    return Live(fleet, draw_up(Repository(store).current(), fleet.fleet.candidates))


def _row(length: int, timed: Timings) -> Row:
    decision, bare = summarize(timed.decisions), summarize(timed.bare)
    return Row(
        prompt_tokens=length,
        embedded_tokens=timed.embedded_tokens,
        calls=len(timed.decisions),
        decision_p50_ms=decision.p50,
        decision_p95_ms=decision.p95,
        bare_p50_ms=bare.p50,
        bare_p95_ms=bare.p95,
        ratio_of_medians=ratio(decision.p50, bare.p50),
    )
