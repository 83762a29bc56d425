"""The figures that nearvote is judged by, measured on this machine."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from scripts.output import show
from tests.bench import cold_start, decision, first_run, gateway, machine, update
from tests.bench.report import Report, as_json, as_text

ALL = ("decision", "gateway", "update", "first-run", "cold-start")
USUAL = ALL[:3]
"""The others have to be asked for: first-run downloads every package anew, cold-start builds what Lambda gets."""


def main() -> None:
    options = _options()
    tables = sys.stderr if options.json else sys.stdout
    found: dict[str, Any] = {"machine": machine.describe()}
    print(found["machine"], file=tables, flush=True)
    measures = _measures(options)
    for name in ALL if "all" in options.parts else options.parts or USUAL:
        report = measures[name]()
        found[name] = as_json(report)
        print(f"\n{as_text(report)}", file=tables, flush=True)
    if options.json:
        show(found, as_json=True, text="")


def _measures(options: argparse.Namespace) -> dict[str, Callable[[], Report[Any]]]:
    return {
        "decision": lambda: decision.measure(options.calls),
        "gateway": lambda: gateway.measure(options.seconds, peers=options.peers),
        "update": lambda: update.measure(options.repetitions),
        "first-run": lambda: first_run.measure(options.cold_model),
        "cold-start": lambda: cold_start.measure(options.starts),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    usually = f"without any: {', '.join(USUAL)}"
    parser.add_argument("parts", nargs="*", type=_part, metavar="part", help=f"{', '.join(ALL)}, or all; {usually}")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the tables go to stderr")
    parser.add_argument("--calls", type=int, default=200, help="decision: counted calls for each prompt length")
    parser.add_argument("--seconds", type=float, default=5.0, help="gateway: for each target at each level")
    parser.add_argument(
        "--peers", action="store_true", help="gateway: beside LiteLLM and Portkey, see `make bench-gateway`"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="update: for each size of upload")
    parser.add_argument("--starts", type=int, default=5, help="cold-start: with each state of the page cache")
    parser.add_argument("--cold-model", action="store_true", help="first-run: fetch the embedding model too")
    return parser.parse_args()


def _part(name: str) -> str:
    if name not in (*ALL, "all"):
        raise argparse.ArgumentTypeError(f"there are {', '.join(ALL)} and all, not {name!r}")
    return name


if __name__ == "__main__":
    main()
