"""Requests a second through `nearvote run` on one core, and what it adds: beside the upstream itself, a bare proxy
and, if wanted, other gateways."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.endpoint import Endpoint
from tests.bench.load import NextRequest, load
from tests.bench.local_server import Server, model_directory, served
from tests.bench.machine import MEASURED, OTHER, pinned
from tests.bench.peers import gateways
from tests.bench.processes import resident_mb
from tests.bench.prompts import Prompts
from tests.bench.report import Aim, Report
from tests.bench.stats import Times, ratio, summarize
from tests.providers import running

LEVELS = (1, 16, 64)
"""Callers at once."""
PROMPT_TOKENS = 128
NAMED_MODEL = "sim-small"
DIRECT, BARE, NAMED, AUTO = "upstream itself", "bare proxy", "nearvote, named", "nearvote, auto"
LITELLM, PORTKEY = "LiteLLM", "Portkey"
WHOLE, STREAM = "whole", "stream"
LITELLM_SHARE = round(1 / 12, 4)
"""Of named nearvote's requests a second, at most."""
ADDED_SHARE = 1 / 8
"""What named nearvote adds, of what LiteLLM adds, at most."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    endpoint: Endpoint
    whole: NextRequest
    stream: NextRequest | None


@dataclass(frozen=True, slots=True)
class Found:
    """One target under one load."""

    name: str
    per_second: float
    times: Times
    memory_mb: float | None


@dataclass(frozen=True, slots=True)
class Row:
    target: str
    answer: str
    """`whole`, or `stream`: then the times are those of its first event."""
    callers: int
    requests_per_s: float
    of_bare_proxy: float | None
    """Its requests a second as a share of the bare proxy's, which knows no streams."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    added_p50_ms: float
    """Beside the upstream itself, quantile by quantile."""
    added_p95_ms: float
    added_p99_ms: float
    memory_mb: float | None
    """Resident after this load, all of the gateway's processes."""


def measure(
    seconds: float = 5.0,
    warm_up: float = 2.0,
    levels: Sequence[int] = LEVELS,
    examples: int | None = None,
    peers: bool = False,
) -> Report[Row]:
    """`seconds`: for each target at each level, for whole answers and again for streams; `examples`: how many of the
    starter index, all by default; `peers`: other gateways too. Raises RuntimeError where these are not installed."""
    if peers:
        gateways.check_installed()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearvote-bench-")))
        with pinned(OTHER):
            upstream = stack.enter_context(running("tests.bench.fast_upstream", "--one-by-one"))
        with pinned(MEASURED):
            bare = stack.enter_context(running("tests.bench.bare_proxy", "--upstream", upstream))
            server = stack.enter_context(served(home, examples, upstream))
            others = _peers(stack, upstream, home) if peers else {}
        stack.enter_context(pinned(OTHER))
        targets = _targets(upstream, bare, server, others)
        for stream in (False, True):
            _level(targets, max(levels), warm_up, stream)
        rows = tuple(
            row for callers in levels for stream in (False, True) for row in _level(targets, callers, seconds, stream)
        )
    return Report(
        "The gateway on one core",
        f"{seconds:g} s each after warm-up, keep-alive, prompts of {PROMPT_TOKENS} tokens; "
        + ("load and upstream on another core" if OTHER != MEASURED else "load and upstream on the SAME core"),
        rows,
        tuple(aims(rows)) if peers else (),
    )


def aims(rows: Sequence[Row]) -> Iterator[Aim]:
    """How nearvote's whole answers stand to those of LiteLLM and Portkey, at each level."""
    whole = {(row.target, row.callers): row for row in rows if row.answer == WHOLE}
    for callers in sorted({row.callers for row in rows}):
        named, auto, litellm, portkey = (whole[name, callers] for name in (NAMED, AUTO, LITELLM, PORTKEY))
        at = f"callers: {callers}"
        yield _share(f"LiteLLM's requests/s, of named nearvote's, {at}", litellm, named, LITELLM_SHARE)
        yield _share(f"Portkey's requests/s, of named nearvote's, {at}", portkey, named, 1.0)
        yield _share(f"LiteLLM's requests/s, of nearvote's with auto, {at}", litellm, auto, 1.0)
        added = ratio(named.added_p50_ms, litellm.added_p50_ms)
        yield Aim(f"added by named nearvote, p50, of what LiteLLM adds, {at}", added, ADDED_SHARE)


def _share(what: str, one: Row, other: Row, at_most: float) -> Aim:
    return Aim(what, ratio(one.requests_per_s, other.requests_per_s), at_most)


def _peers(stack: ExitStack, upstream: str, home: Path) -> dict[str, Endpoint]:
    return {
        LITELLM: stack.enter_context(gateways.litellm(upstream, home)),
        PORTKEY: stack.enter_context(gateways.portkey(upstream, home)),
    }


def _targets(upstream: str, bare: str, server: Server, others: Mapping[str, Endpoint]) -> tuple[Target, ...]:
    """`upstream`, `bare`: base URLs that end in /v1. Requests with `auto` are never the same, all others always are."""
    prompts = Prompts(model_directory())
    prompt = prompts.make(PROMPT_TOKENS)

    def again(name: str, endpoint: Endpoint) -> Target:
        whole, stream = endpoint.request(prompt, stream=False), endpoint.request(prompt, stream=True)
        return Target(name, endpoint, lambda: whole, lambda: stream)

    def anew(name: str, endpoint: Endpoint) -> Target:
        def next_request(stream: bool) -> bytes:
            return endpoint.request(prompts.make(PROMPT_TOKENS), stream)

        return Target(name, endpoint, lambda: next_request(False), lambda: next_request(True))

    def nearvote(model: str) -> Endpoint:
        return Endpoint(f"{server.url}/v1/chat/completions", model, server.headers, server.pid)

    direct, proxied = (Endpoint(f"{base}/chat/completions", NAMED_MODEL, server.headers) for base in (upstream, bare))
    return (
        again(DIRECT, direct),
        replace(again(BARE, proxied), stream=None),
        again(NAMED, nearvote(NAMED_MODEL)),
        anew(AUTO, nearvote("auto")),
        *(again(name, endpoint) for name, endpoint in others.items()),
    )


def _level(targets: Sequence[Target], callers: int, seconds: float, stream: bool) -> list[Row]:
    """The upstream itself comes first in `targets`: what is added is added to its times."""
    found = [
        _found(target, next_request, callers, seconds)
        for target in targets
        if (next_request := target.stream if stream else target.whole)
    ]
    direct = found[0].times
    bare = next((one.per_second for one in found if one.name == BARE), None)
    return [
        Row(
            target=one.name,
            answer=STREAM if stream else WHOLE,
            callers=callers,
            requests_per_s=one.per_second,
            of_bare_proxy=None if bare is None else ratio(one.per_second, bare),
            p50_ms=one.times.p50,
            p95_ms=one.times.p95,
            p99_ms=one.times.p99,
            added_p50_ms=round(one.times.p50 - direct.p50, 3),
            added_p95_ms=round(one.times.p95 - direct.p95, 3),
            added_p99_ms=round(one.times.p99 - direct.p99, 3),
            memory_mb=one.memory_mb,
        )
        for one in found
    ]


def _found(target: Target, next_request: NextRequest, callers: int, seconds: float) -> Found:
    """A stream's times are those of its first event."""
    endpoint = target.endpoint
    found = load(endpoint.url, next_request, callers, seconds)
    memory = None if endpoint.pid is None else resident_mb(endpoint.pid)
    return Found(target.name, found.per_second, summarize(found.first_events or found.latencies), memory)
