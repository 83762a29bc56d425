"""A Lambda function in a process of its own, without AWS's runtime: it is asleep between events, as in Lambda.

`python -m tests.lambda_function handler.data.entry` takes one event a line and gives one answer a line.
"""

import importlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]
ANSWER_S = 30.0

Json: TypeAlias = dict[str, Any]


class Function:
    """One warm function."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, event: Json) -> Json:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        line = self._process.stdout.readline() if ready else ""
        assert line, "the function ended or did not answer in time"
        self._process.send_signal(signal.SIGSTOP)
        answer: Json = json.loads(line)
        return answer


@contextmanager
def function(module: str, environment: Mapping[str, str]) -> Iterator[Function]:
    """`module.entry`, started cold in `environment` and nothing else."""
    command = [sys.executable, "-m", "tests.lambda_function", module]
    with subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Function(process)
        finally:
            process.kill()


def main() -> None:
    entry = importlib.import_module(sys.argv[1]).entry
    for line in sys.stdin:
        sys.stdout.write(json.dumps(entry(json.loads(line), None)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
