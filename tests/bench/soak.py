"""Many callers for many minutes over models that fail at random: is anything lost, does anything grow?

`python -m tests.bench.soak --seconds 600`
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scripts.output import show
from tests.bench import endings, machine
from tests.bench.endings import Ending
from tests.bench.local_server import Server, model_directory, served
from tests.bench.processes import open_files, resident_mb
from tests.bench.prompts import Prompts
from tests.bench.report import Aim, Report, as_json, as_text
from tests.providers import running

CALLERS = 16
FAULT_RATE = 0.1
"""Of the upstream: 429, 500, a cut, slowness and garbage."""
SEED = 7
PROMPT_TOKENS = 64
ANSWER_S = 60.0
"""How long an answer may be silent before it is lost."""
WARM_S = 60.0
"""After so long nothing should grow any more."""
MOST_GROWTH = 1.1
"""Memory at the end, of that once warm."""


@dataclass(frozen=True, slots=True)
class Kind:
    model: str
    stream: bool


KINDS = tuple(Kind(model, stream) for model in ("sim-small", "auto") for stream in (False, True))


@dataclass(frozen=True, slots=True)
class Requests:
    """Of one kind."""

    model: str
    answer: str
    sent: int
    answered: int
    refused: int
    """With an error in the protocol."""
    lost: int
    """Neither."""


@dataclass(frozen=True, slots=True)
class Held:
    """By the server's process."""

    after_s: float
    memory_mb: float | None
    open_files: int | None


@dataclass(slots=True)
class Tally:
    sent: Counter[Kind] = field(default_factory=Counter)
    ended: Counter[tuple[Kind, Ending]] = field(default_factory=Counter)

    def of(self, kind: Kind) -> Requests:
        sent = self.sent[kind]
        answered, refused = self.ended[kind, Ending.ANSWERED], self.ended[kind, Ending.REFUSED]
        answer = "stream" if kind.stream else "whole"
        return Requests(kind.model, answer, sent, answered, refused, sent - answered - refused)


def measure(seconds: float = 600.0, examples: int | None = None) -> tuple[Report[Requests], Report[Held]]:
    """`examples`: how many of the starter index; all by default."""
    faulty = ("--fault-rate", str(FAULT_RATE), "--seed", str(SEED))
    prompts = Prompts(model_directory())
    with (
        tempfile.TemporaryDirectory(prefix="nearvote-bench-") as home,
        running("scripts.simulated_provider", *faulty) as upstream,
        served(Path(home), examples, upstream) as server,
    ):
        tally, held = asyncio.run(_soak(server, prompts, seconds))
    return _requests(tally, seconds), _held(held)


async def _soak(server: Server, prompts: Prompts, seconds: float) -> tuple[Tally, tuple[Held, ...]]:
    tally, started = Tally(), time.monotonic()
    held = [_hold(server, started)]
    limits = httpx.Limits(max_connections=CALLERS)
    async with (
        httpx.AsyncClient(base_url=server.url, headers=server.headers, timeout=ANSWER_S, limits=limits) as http,
        asyncio.TaskGroup() as group,
    ):
        callers = [group.create_task(_call(http, prompts, seed, tally, started + seconds)) for seed in range(CALLERS)]
        await asyncio.sleep(min(WARM_S, seconds / 2))
        held.append(_hold(server, started))
        await asyncio.wait(callers)
        held.append(_hold(server, started))
    return tally, tuple(held)


async def _call(http: httpx.AsyncClient, prompts: Prompts, seed: int, tally: Tally, until: float) -> None:
    """One request after another, until the time is up."""
    draws = random.Random(seed)
    while time.monotonic() < until:
        kind = draws.choice(KINDS)
        message = {"role": "user", "content": prompts.make(PROMPT_TOKENS)}
        tally.sent[kind] += 1
        with contextlib.suppress(httpx.HTTPError):
            body = {"model": kind.model, "messages": [message], "stream": kind.stream}
            answer = await http.post("/v1/chat/completions", json=body)
            read = endings.stream if kind.stream else endings.whole
            tally.ended[kind, read(answer.status_code, answer.content)] += 1


def _hold(server: Server, started: float) -> Held:
    return Held(round(time.monotonic() - started, 1), resident_mb(server.pid), open_files(server.pid))


def _requests(tally: Tally, seconds: float) -> Report[Requests]:
    rows = tuple(tally.of(kind) for kind in KINDS)
    conditions = f"{CALLERS} callers for {seconds:g} s; the upstream fails {FAULT_RATE:.0%} of what it is asked"
    return Report("What became of the requests", conditions, rows, (Aim("lost", sum(row.lost for row in rows), 0),))


def _held(held: tuple[Held, ...]) -> Report[Held]:
    _, warm, end = held
    aims: tuple[Aim, ...] = ()
    if warm.memory_mb and end.memory_mb and warm.open_files and end.open_files:
        aims = (
            Aim("memory at the end, of that once warm", round(end.memory_mb / warm.memory_mb, 3), MOST_GROWTH),
            Aim("open files, more at the end than once warm", end.open_files - warm.open_files, CALLERS),
        )
    return Report("What the server held", "before the first request, once warm, and after the last", held, aims)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the tables go to stderr")
    options = parser.parse_args()
    tables = sys.stderr if options.json else sys.stdout
    described = machine.describe()
    print(described, file=tables, flush=True)
    requests, held = measure(options.seconds)
    print(f"\n{as_text(requests)}\n\n{as_text(held)}", file=tables)
    if options.json:
        show({"machine": described, "requests": as_json(requests), "server": as_json(held)}, as_json=True, text="")


if __name__ == "__main__":
    main()
