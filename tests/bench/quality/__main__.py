"""How well the vote routes, how far its dial and its confidence can be believed, and what an edit costs: measured on
published outcomes that lie outside this repository."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from index.errors import NearvoteIndexError
from scripts.evaluation.contest import BadContest
from scripts.output import say, to_json
from tests.bench import machine
from tests.bench.quality import (
    agent_turns,
    cases,
    dial,
    edits,
    fleets,
    leftout,
    pairs,
    reliability,
    runs,
    sessions,
    sources,
    unseen,
)
from tests.bench.quality.leftout import Absences
from tests.bench.quality.report import Part, as_json, as_text
from tests.bench.quality.runs import Compared, Run
from tests.bench.quality.sources import Missing, Sources

PARTS = ("pairs", "fleets", "dial", "unseen", "reliability", "edits", "agent-turns", "sessions")
DATA = Path("../shared/data")


class Bench:
    """What several parts are about is measured once."""

    def __init__(self, found: Sources, seeds: int | None) -> None:
        self._sources = found
        self._seeds = seeds

    def part(self, name: str) -> Part:
        return self._parts[name]()

    @property
    def _parts(self) -> dict[str, Callable[[], Part]]:
        return {
            "pairs": lambda: pairs.part(self._pairs, self._references),
            "fleets": lambda: fleets.part(self._fleets),
            "dial": lambda: dial.part([*self._routed, *self._other_sizes], [self._fleets[0].run]),
            "unseen": lambda: unseen.part(self._left_out),
            "reliability": self._reliability,
            "edits": lambda: edits.part(self._sources, self._seeds),
            "sessions": lambda: sessions.part(self._sources.zeroeval, self._seeds),
            "agent-turns": lambda: agent_turns.part(cases.pairs(self._sources, self._seeds), sources.embed_texts),
        }

    def _reliability(self) -> Part:
        routed = [(run.case.name, run.asked) for run in self._routed]
        left_out = [(one.name, [split.unseen.asked for split in one.splits]) for one in self._left_out]
        return reliability.part(routed, left_out)

    @property
    def _routed(self) -> list[Run]:
        return [one.run for one in (*self._pairs, *self._fleets)]

    @cached_property
    def _pairs(self) -> tuple[Compared, ...]:
        return tuple(map(runs.compare, cases.pairs(self._sources, self._seeds)))

    @cached_property
    def _references(self) -> tuple[Compared, ...]:
        return tuple(map(runs.compare, cases.references(self._sources, self._seeds)))

    @cached_property
    def _fleets(self) -> tuple[Compared, ...]:
        return tuple(map(runs.compare, cases.fleets(self._sources, self._seeds)))

    @cached_property
    def _other_sizes(self) -> tuple[Run, ...]:
        return tuple(map(runs.run, cases.other_sizes(self._sources, self._seeds)))

    @cached_property
    def _left_out(self) -> tuple[Absences, ...]:
        return tuple(map(leftout.run, leftout.plans(self._sources, self._seeds)))


def main() -> int:
    options, tables = _options(), sys.stdout
    try:
        bench = Bench(sources.read(options.data), options.seeds)
        found: dict[str, Any] = {"machine": machine.describe()}
        for name in options.parts or PARTS:
            start = time.perf_counter()
            part = bench.part(name)
            seconds = time.perf_counter() - start
            found[name] = {**as_json(part), "seconds": seconds}
            print(f"{as_text(part)}\n\n{name}: {seconds:.0f} s\n", file=tables, flush=True)
    except (Missing, BadContest, NearvoteIndexError, OSError) as error:
        say(f"error: {error}")
        return 1
    if options.json:
        options.json.write_text(f"{to_json(found)}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=__doc__)
    parser.add_argument("parts", nargs="*", type=_part, metavar="part", help=f"{', '.join(PARTS)}; without any: all")
    parser.add_argument("--data", type=Path, default=DATA, help="the directory of measured outcomes; %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, as one JSON object")
    parser.add_argument("--seeds", type=_positive, help="splits of everything, instead of the usual numbers")
    return parser.parse_args()


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there are {', '.join(PARTS)}, not {name!r}")
    return name


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a positive number: {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
