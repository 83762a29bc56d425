"""What the data plane imports is what every cold start waits for."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.nearvote_server import clean_environment

RUNS = 3
MOST_S = 1.5
"""Twice what it took where this was written. Less would fail on a slow day, more would miss a library too many."""
PROGRAM_S = 60.0
IMPORT = "import handler.data.server"
OPENED = f"""
{IMPORT}
import json, sys
from handler.services import open_services
from handler.settings import from_environment
open_services(from_environment())
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""
NEEDLESS = {
    # In AWS only.
    *("boto3", "botocore", "mangum", "snapshot_restore_py"),
    # For commands, downloads and pictures.
    *("typer", "tqdm", "openai", "scripts", "requests", "huggingface_hub", "PIL", "matplotlib", "pandas", "setuptools"),
    # With the model, by the embedder.
    *("fastembed", "onnxruntime", "tokenizers"),
}


def test_the_server_is_imported_fast_enough() -> None:
    times = []
    for _ in range(RUNS):
        before = time.perf_counter()
        _run(IMPORT)
        times.append(time.perf_counter() - before)
    assert min(times) < MOST_S


def test_with_local_state_nothing_is_imported_that_is_not_used(starter_home: Path) -> None:
    imported = set(json.loads(_run(OPENED, {"NEARVOTE_HOME": str(starter_home)})))
    assert imported >= {"handler", "index", "faiss", "uvicorn"}
    assert imported & NEEDLESS == set()


def _run(script: str, settings: dict[str, str] | None = None) -> str:
    """In a Python of its own, on the packages of this one."""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment() | (settings or {}),
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
