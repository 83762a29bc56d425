"""How long an edit takes to change a route, on a running server."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.bench.local_server import Server, model_directory, served
from tests.bench.prompts import Prompts
from tests.bench.report import Aim, Report
from tests.bench.stats import summarize

SIZES = (1, 500)
PROMPT_TOKENS = 64
MODELS = ("sim-small", "sim-medium")
"""Between which a route is changed."""
CALL_S = 120.0
LIVE_S = 30.0
AIM_S = 5.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    examples: int
    """Uploaded at once."""
    repetitions: int
    upload_median_s: float
    upload_max_s: float
    live_median_s: float
    """From the answer to the upload to the first answer that shows the changed route."""
    live_max_s: float
    total_median_s: float
    total_max_s: float


@dataclass(frozen=True, slots=True)
class Change:
    upload: float
    live: float

    @property
    def total(self) -> float:
        return self.upload + self.live


class Editor:
    def __init__(self, http: httpx.Client, prompts: Prompts) -> None:
        self._http = http
        self._prompts = prompts

    def change(self, size: int) -> Change:
        """Upload examples that give a prompt to another model, wait until it goes there, and delete them again."""
        texts = [self._prompts.make(PROMPT_TOKENS) for _ in range(size)]
        now = self._route(texts[-1])["model"]
        wanted = next(model for model in MODELS if model != now)
        lines = [{"id": f"bench-{row}", "prompt": text, "only": wanted} for row, text in enumerate(texts)]
        started = time.perf_counter()
        version = self._post("/admin/v1/examples", b"\n".join(json.dumps(line).encode() for line in lines))["version"]
        uploaded = time.perf_counter()
        self._await(texts[-1], {"model": wanted, "index_version": version})
        live = time.perf_counter()
        self._delete([str(line["id"]) for line in lines], texts[-1])
        return Change(uploaded - started, live - uploaded)

    def _delete(self, ids: Sequence[str], text: str) -> None:
        version = self._post("/admin/v1/examples/delete", json.dumps({"ids": ids}).encode())["version"]
        self._await(text, {"index_version": version})

    def _await(self, text: str, wanted: dict[str, str]) -> None:
        deadline = time.monotonic() + LIVE_S
        while not wanted.items() <= (decision := self._route(text)).items():
            if time.monotonic() > deadline:
                shown = {name: decision[name] for name in ("cause", *wanted)}
                raise TimeoutError(f"after {LIVE_S:.0f} s the route is still {shown}, not {wanted}")
            time.sleep(POLL_S)

    def _route(self, text: str) -> dict[str, Any]:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        return self._post("/v1/route", json.dumps(body).encode())

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        answer = self._http.post(path, content=body)
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value


def measure(repetitions: int = 5, sizes: Sequence[int] = SIZES, examples: int | None = None) -> Report[Row]:
    """`examples`: how many of the starter index; all by default."""
    prompts = Prompts(model_directory())
    with (
        tempfile.TemporaryDirectory(prefix="nearvote-bench-") as home,
        served(Path(home), examples) as server,
        _client(server) as http,
    ):
        editor = Editor(http, prompts)
        rows = tuple(_row(size, [editor.change(size) for _ in range(repetitions)]) for size in sizes)
    return Report(
        "From an upload to the changed route, on a running server",
        f"`live` starts when the upload is answered, just after the server last looked, so near its worst; "
        f"/v1/route is asked every {POLL_S * 1000:.0f} ms",
        rows,
        (
            Aim("from an upload's answer to the changed route, largest, s", max(row.live_max_s for row in rows), AIM_S),
            Aim("from an upload of one example, largest, s", rows[0].total_max_s, AIM_S),
        ),
    )


def _client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers=server.headers, timeout=CALL_S)


def _row(size: int, changes: Sequence[Change]) -> Row:
    upload = summarize([change.upload for change in changes])
    live = summarize([change.live for change in changes])
    total = summarize([change.total for change in changes])
    seconds = [round(ms / 1000, 2) for one in (upload, live, total) for ms in (one.p50, one.most)]
    return Row(size, len(changes), *seconds)
