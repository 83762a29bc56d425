"""The artifact: what is in it, that it runs, and that it stays below Lambda's limit."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from handler import catalogue
from handler.data import server
from handler.keys import NewKey, Routing
from index.embedder import MODEL_FILES
from index.store import open_store
from infra import archive, bytecode, package, trim, wheels
from infra.wheels import BuildError
from scripts.local_state import ensure_fleet
from tests.infra.artifact import ARCH, BOTO3, ROOT, Runtime
from tests.nearvote_server import Server, copy_home, create_key
from tests.servers import free_ports

START_S = 60.0
STOP_S = 10.0
PROGRAM_S = 60.0
UPSTREAM = {"SIMULATED_PROVIDER_URL": "http://127.0.0.1:9/v1"}
PINNED = re.compile(r"^([a-z0-9-]+)==([^ ]+)", re.MULTILINE)
ENTRIES = """
import handler.control.entry, handler.control.inbox_entry, handler.data.entry, handler.data.server
import aiohttp, boto3, faiss, httpx, httptools, onnxruntime, uvloop
import json, sys
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}))
"""
COMPILED = """
import marshal, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*.pyc"):
    data = path.read_bytes()
    print(int.from_bytes(data[4:8], "little"), marshal.loads(data[16:]).co_filename)
"""
LIBRARIES = """
import ctypes, pathlib, sys
import numpy, onnxruntime
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.so*")):
    ctypes.CDLL(str(path))
"""


def test_the_artifact_leaves_five_percent_of_the_limit_beside_the_adapters_layer(artifact: Path) -> None:
    size = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    assert package.unzipped_size(artifact) == size
    assert size + 6_000_000 <= 0.95 * 262_144_000


def test_an_artifact_past_the_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(243_036_800)
    assert package.unzipped_size(tmp_path) == 243_036_800
    (tmp_path / "one byte more").write_bytes(b"1")
    with pytest.raises(BuildError, match="243,036,801 bytes unzipped; only 243,036,800 leave 5%"):
        package.unzipped_size(tmp_path)


def test_the_artifact_holds_what_the_functions_need_and_not_what_makes_it(artifact: Path) -> None:
    top = {path.name for path in artifact.iterdir()}
    assert top >= {
        "handler",
        "index",
        "model",
        "run.sh",
        "uvicorn",
        "uvloop",
        "httptools",
        "httpx",
        "aiohttp",
        "mangum",
    }
    assert not top & {"scripts", "tests", "infra", "bin", "hf_xet", "openai", *BOTO3}
    assert sorted(path.name for path in (artifact / "model").iterdir()) == sorted(MODEL_FILES)
    assert [path.name for path in (artifact / "index").glob("starter*")] == ["starter.py"]
    assert (artifact / "handler" / "catalogue.json").read_bytes() == catalogue.FILE.read_bytes()


def test_every_module_is_compiled_for_the_place_where_lambda_puts_it(artifact: Path, lambda_runtime: Runtime) -> None:
    compiled = _run(lambda_runtime, artifact, COMPILED, str(artifact)).splitlines()
    modules = (path.relative_to(artifact) for path in artifact.rglob("*.py"))
    # 1: the source's hash is in the file, and nobody looks at the source.
    assert sorted(compiled) == sorted(f"1 /var/task/{module}" for module in modules)


def test_a_second_build_gives_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    package.build(ARCH, tmp_path / "again", bytecode.find_python())
    assert _contents(tmp_path / "again") == _contents(artifact)


def test_a_build_whose_inputs_are_the_same_is_kept(artifact: Path) -> None:
    before = artifact.stat().st_ino
    package.build(ARCH, artifact, bytecode.find_python())
    assert artifact.stat().st_ino == before


def test_the_zip_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    for name, order in (("one", ("run.sh", "a.py", "b/c.py")), ("two", ("b/c.py", "a.py", "run.sh"))):
        for path in order:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(path)
    (tmp_path / "two" / "a.py").chmod(0o600)
    os.utime(tmp_path / "two" / "b" / "c.py", (0, 0))
    for name in ("one", "two"):
        archive.settle(tmp_path / name)
        archive.write_zip(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert [(entry.filename, oct(entry.external_attr >> 16), entry.date_time) for entry in packed.infolist()] == [
            ("a.py", "0o100644", (1980, 1, 1, 0, 0, 0)),
            ("b/c.py", "0o100644", (1980, 1, 1, 0, 0, 0)),
            ("run.sh", "0o100755", (1980, 1, 1, 0, 0, 0)),
        ]


def test_the_lock_has_every_runtime_dependency_at_the_version_that_the_tests_use() -> None:
    locked = dict(PINNED.findall(wheels.LOCK.read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split("[<>=]", dependency)[0] for dependency in project["dependencies"]}
    assert {*named, "uvicorn", "uvloop", "httptools"} - locked.keys() == {"boto3"}
    known = set(PINNED.findall((ROOT / "requirements.lock").read_text()))
    assert set(locked.items()) <= known


def test_every_entry_runs_on_the_artifact_and_the_runtime_alone(
    artifact: Path, lambda_runtime: Runtime, home: Path
) -> None:
    printed = _run(lambda_runtime, artifact, ENTRIES, environment={"NEARVOTE_HOME": str(home), **UPSTREAM})
    files = {name: Path(file) for name, file in json.loads(printed).items()}
    ours = {name for name, file in files.items() if file.is_relative_to(artifact)}
    brought = {name for name, file in files.items() if file.is_relative_to(lambda_runtime.packages)}
    assert {"handler.control.entry", "handler.control.inbox_entry", "handler.data.entry"} <= ours
    assert {"handler.data.server", "fastembed", "numpy", "urllib3"} <= ours
    assert {name.partition(".")[0] for name in brought} <= set(BOTO3)
    assert [name for name in files.keys() - ours - brought if "site-packages" in str(files[name])] == []


def test_every_library_that_was_kept_finds_those_it_needs(artifact: Path, lambda_runtime: Runtime) -> None:
    _run(lambda_runtime, artifact, LIBRARIES, str(artifact))


def test_the_artifact_decides_as_the_local_server_does_and_calls_the_model_that_it_chose(
    artifact: Path, lambda_runtime: Runtime, home: Path, simulated_provider: str, nearvote_server: Server
) -> None:
    key = create_key(home, NewKey(name="a", routing=Routing.ON))
    with _served(artifact, lambda_runtime, home, {"SIMULATED_PROVIDER_URL": simulated_provider}) as url:
        decided = _post(f"{url}/v1/route", key)
        answered = _post(f"{url}/v1/chat/completions", key)
    local = _post(f"{nearvote_server.url}/v1/route", nearvote_server.key)
    for told in (decided, local):  # what is not the same twice, and how fast each server has seen the models be
        del told["decision_id"]
        for ranked in told["ranking"]:
            del ranked["expected_latency_ms"]
    assert decided == local
    assert decided["cause"] == "vote"
    assert answered["model"] == decided["model"]


def test_symbols_are_cut_off_and_what_is_loaded_stays() -> None:
    header = bytearray(b"\x7fELF\x02\x01" + bytes(58))
    header[32:40] = (64).to_bytes(8, "little")  # segments
    header[40:48] = (140).to_bytes(8, "little")  # sections
    header[54:64] = b"".join(number.to_bytes(2, "little") for number in (56, 1, 64, 3, 2))
    segment = (1).to_bytes(4, "little") + bytes(4) + bytes(24) + (130).to_bytes(8, "little") + bytes(16)
    kept = trim.loaded_part(bytes(header) + segment + b"loaded....symbols and sections")
    assert kept[120:] == b"loaded...."
    assert kept[40:48] + kept[58:64] == bytes(14)
    assert kept[:40] + kept[48:58] == bytes(header[:40] + header[48:58])


def test_what_is_no_library_for_lambda_is_refused() -> None:
    with pytest.raises(BuildError, match="no shared library for Lambda"):
        trim.loaded_part(b"\xcf\xfa\xed\xfe a library for macOS")


def test_a_rule_that_drops_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="drops 'bin', but the wheels have no such thing any more"):
        trim.trim(tmp_path)


def test_without_a_python_of_the_runtime_none_is_found_and_the_report_says_so(tmp_path: Path) -> None:
    lost = tmp_path / "python3.13"  # as pyenv's are, of versions that are not chosen
    lost.write_text("#!/bin/sh\nexit 127\n")
    lost.chmod(0o755)
    found = bytecode.find_python({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert found == (Path(sys.executable) if sys.version_info[:2] == (3, 13) else None)
    assert "0 bytes unzipped" in package.report(tmp_path / "none", None)
    assert "NOT compiled, as no Python 3.13 was found" in package.report(tmp_path / "none", None)


def test_the_servers_port_is_the_one_that_the_adapter_asks_for() -> None:
    assert server.port({}) == 8080
    assert server.port({"PORT": "9000"}) == 9000
    assert server.port({"PORT": "9000", "AWS_LWA_PORT": "9001"}) == 9001
    with pytest.raises(ValueError, match="AWS_LWA_PORT='http' is not a port"):
        server.port({"AWS_LWA_PORT": "http"})


@pytest.fixture
def home(starter_home: Path, tmp_path: Path) -> Path:
    """Local state with the starter index and the simulated fleet."""
    home = copy_home(starter_home, tmp_path / "home")
    ensure_fleet(open_store(str(home)), {})
    return home


def _contents(tree: Path) -> dict[str, tuple[str, str, float]]:
    return {
        name: (hashlib.sha256(path.read_bytes()).hexdigest(), oct(path.stat().st_mode), path.stat().st_mtime)
        for name, path in archive.files(tree)
    }


def _run(
    runtime: Runtime, artifact: Path, script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> str:
    """What the script printed, run in a directory that has nothing to import."""
    ended = subprocess.run(
        [runtime.python, "-c", script, *arguments],
        cwd=runtime.bin,
        env=runtime.environment(artifact) | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@contextmanager
def _served(artifact: Path, runtime: Runtime, home: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """run.sh's server, which has to end in good order when it is asked to."""
    port = str(free_ports(1)[0])
    settings = {"NEARVOTE_HOME": str(home), "AWS_LWA_PORT": port, **environment}
    log = home.with_name("log")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [artifact / "run.sh"],
            cwd=runtime.bin,
            env=runtime.environment(artifact) | settings,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _await_healthy(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            assert process.wait(STOP_S) == -signal.SIGTERM
        finally:
            process.kill()


def _await_healthy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            assert httpx.get(f"{url}/healthz", timeout=1).status_code == 200
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the artifact's server did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)


def _post(url: str, key: str) -> dict[str, Any]:
    question = {"role": "user", "content": "Translate to French: good morning"}
    answer = httpx.post(
        url, json={"model": "auto", "messages": [question]}, headers={"authorization": f"Bearer {key}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body
