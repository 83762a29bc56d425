"""Requests a second through `nearvote run` on one core, beside the upstream itself and a bare proxy."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import NextRequest, load, post
from tests.bench.local_server import Server, model_directory, served
from tests.bench.machine import MEASURED, OTHER, pinned
from tests.bench.prompts import Prompts
from tests.bench.report import Report
from tests.bench.stats import ratio, summarize
from tests.providers import running

LEVELS = (1, 16, 64)
"""Callers at once."""
PROMPT_TOKENS = 128
NAMED = "sim-small"
BARE = "bare proxy"


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    url: str
    next_request: NextRequest


@dataclass(frozen=True, slots=True)
class Row:
    target: str
    callers: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    of_bare_proxy: float
    """Its requests a second as a share of the bare proxy's."""


def measure(
    seconds: float = 5.0, warm_up: float = 2.0, levels: Sequence[int] = LEVELS, examples: int | None = None
) -> Report[Row]:
    """`seconds`: for each target at each level; `examples`: how many of the starter index, all by default."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearvote-bench-")))
        with pinned(OTHER):
            upstream = stack.enter_context(running("tests.bench.fast_upstream"))
        with pinned(MEASURED):
            bare = stack.enter_context(running("tests.bench.bare_proxy", "--upstream", upstream))
            server = stack.enter_context(served(home, examples, upstream))
        stack.enter_context(pinned(OTHER))
        targets = _targets(upstream, bare, server)
        for target in targets:
            load(target.url, target.next_request, max(levels), warm_up)
        rows = [row for callers in levels for row in _level(targets, callers, seconds)]
    return Report(
        "The gateway on one core",
        f"{seconds:g} s each after warm-up, keep-alive, prompts of {PROMPT_TOKENS} tokens; "
        + ("load and upstream on another core" if OTHER != MEASURED else "load and upstream on the SAME core"),
        tuple(rows),
    )


def _targets(upstream: str, bare: str, server: Server) -> tuple[Target, ...]:
    """`upstream`, `bare`: base URLs that end in /v1. Named requests are all the same, `auto` ones never."""
    prompts = Prompts(model_directory())
    named = _body(NAMED, prompts.make(PROMPT_TOKENS))
    nearvote = f"{server.url}/v1/chat/completions"

    def again(url: str) -> NextRequest:
        request = post(url, named, server.headers)
        return lambda: request

    def auto() -> bytes:
        return post(nearvote, _body("auto", prompts.make(PROMPT_TOKENS)), server.headers)

    direct, proxied = f"{upstream}/chat/completions", f"{bare}/chat/completions"
    return (
        Target("upstream itself", direct, again(direct)),
        Target(BARE, proxied, again(proxied)),
        Target("nearvote, named", nearvote, again(nearvote)),
        Target("nearvote, auto", nearvote, auto),
    )


def _level(targets: Iterable[Target], callers: int, seconds: float) -> list[Row]:
    loads = {target.name: load(target.url, target.next_request, callers, seconds) for target in targets}
    times = {name: summarize(one.latencies) for name, one in loads.items()}
    bare = loads[BARE].per_second
    return [
        Row(name, callers, one.per_second, times[name].p50, times[name].p95, ratio(one.per_second, bare))
        for name, one in loads.items()
    ]


def _body(model: str, prompt: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode()
