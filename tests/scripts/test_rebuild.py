"""`NEARVOTE_STORE=s3://… nearvote index rebuild`, as infra/README.md has it done after an upgrade of the embedder."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from handler.control.embedding import LazyEmbedder
from index.edits import Upload, add
from index.embedder import DIMENSIONS
from index.store import open_store
from index.types import Floats
from index.versions import Repository
from tests.admin_server import jsonl
from tests.nearvote_server import clean_environment
from tests.servers import BUCKET, S3Server

STORE = f"s3://{BUCKET}/rebuild"
ROWS = tuple({"id": f"e{n}", "prompt": f"Add {n} and {n * 7}.", "scores": {"small": 0.5}} for n in range(100))
NEARVOTE = Path(sys.executable).with_name("nearvote")


@pytest.fixture
def aws(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What leads boto3 to the server, here and in commands."""
    given = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def all_alike(prompts: Sequence[str]) -> Floats:
    vectors = np.zeros((len(prompts), DIMENSIONS), np.float32)
    vectors[:, 0] = 1
    return vectors


def test_an_index_in_a_bucket_is_embedded_anew(
    aws: dict[str, str], lazy_embedder: LazyEmbedder, model_dir: Path, tmp_path: Path
) -> None:
    repository = Repository(open_store(STORE))
    add(repository, Upload(jsonl(*ROWS)), (), all_alike, "another embedder", "first")

    environ = clean_environment() | aws | {"NEARVOTE_STORE": STORE, "NEARVOTE_MODEL_DIR": str(model_dir)}
    done = subprocess.run(
        [NEARVOTE, "index", "rebuild"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    rebuilt = repository.current()
    assert done.stdout == f"version 2 ({rebuilt.version}), 100 examples\n"
    assert rebuilt.manifest.fingerprint == lazy_embedder.fingerprint
    assert list(rebuilt.examples.ids) == [row["id"] for row in ROWS]
    similarities, rows = rebuilt.search(lazy_embedder.embed_many([str(ROWS[42]["prompt"])]), 1)
    assert (rows.tolist(), similarities.round(3).tolist()) == ([[42]], [[1.0]])
