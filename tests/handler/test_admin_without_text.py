"""The control plane over examples whose text was kept out of storage."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from handler.control.embedding import LazyEmbedder
from index.edits import start
from index.segment import from_examples
from index.store import open_store
from index.structure import describe_all
from index.types import Example
from index.versions import Repository
from scripts.main import app
from tests.admin_server import MAXI_DOES_IT, AdminServer, told

EXAMPLES = "/admin/v1/examples"
TEXTS = ("Say hello.", "What is 17 times 23?")
HELLO = Example("hello", TEXTS[0], {"nano": 1.0}, task="chat")
SUM = Example("sum", "", {"nano": 0.25, "maxi": 1.0}, task="sums", source="A published set")
SHOWN = {
    "id": "sum",
    "prompt": "",
    "task": "sums",
    "source": "A published set",
    "scores": {"nano": 0.25, "maxi": 1.0},
}


@pytest.fixture
def server(admin_server: AdminServer, lazy_embedder: LazyEmbedder) -> AdminServer:
    """With HELLO, and SUM without its text."""
    first = from_examples([HELLO, SUM], lazy_embedder.embed_many(TEXTS), describe_all(TEXTS))
    start(repository_of(admin_server), first, lazy_embedder.fingerprint, "first")
    return admin_server


def repository_of(server: AdminServer) -> Repository:
    return Repository(open_store(str(server.home)))


def made_by_another_embedder(server: AdminServer) -> str:
    return repository_of(server).replace_all(lambda base: base.examples, "elsewhere", "another").version


def nearvote(server: AdminServer, *command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--url", server.url, "--admin-key", server.admin_key])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_listed_and_shown_with_its_source(server: AdminServer) -> None:
    assert server.examples() == {
        "hello": {"id": "hello", "prompt": "Say hello.", "task": "chat", "scores": {"nano": 1.0}},
        "sum": SHOWN,
    }
    assert told(server.client.get(f"{EXAMPLES}/sum")) == SHOWN
    assert told(server.client.get(EXAMPLES, params={"task": "sums"}))["data"] == [SHOWN]


def test_a_filter_by_text_passes_it_over(server: AdminServer) -> None:
    assert told(server.client.get(EXAMPLES, params={"text": "17"}))["data"] == []
    assert [one["id"] for one in told(server.client.get(EXAMPLES, params={"text": "HELLO"}))["data"]] == ["hello"]


def test_what_is_near_is_found_by_its_vector(server: AdminServer) -> None:
    found = told(server.client.get(f"{EXAMPLES}/search", params={"q": TEXTS[1], "limit": 1}))["data"]
    assert found == [{"similarity": 1.0, **SHOWN}]


def test_it_can_be_relabelled_and_deleted(server: AdminServer, lazy_embedder: LazyEmbedder) -> None:
    told(server.client.patch(f"{EXAMPLES}/sum", json={"model": "maxi"}))
    assert told(server.client.get(f"{EXAMPLES}/sum")) == SHOWN | {"model": "maxi", "scores": MAXI_DOES_IT}
    kept = repository_of(server).current().examples
    np.testing.assert_array_equal(kept.vectors[1], lazy_embedder.embed(TEXTS[1]))
    assert told(server.client.delete(f"{EXAMPLES}/sum"))["examples"] == 1


def test_a_rebuild_with_another_embedder_tells_how_many_it_left_out(server: AdminServer) -> None:
    parent = made_by_another_embedder(server)
    rebuilt = told(server.client.post("/admin/v1/index/rebuild"))
    assert (rebuilt["examples"], rebuilt["left_out"], rebuilt["parent"]) == (1, 1, parent)
    again = told(server.client.post("/admin/v1/index/rebuild"))
    assert (again["examples"], again["left_out"]) == (1, 0)


def test_the_commands_say_that_there_is_no_text(server: AdminServer) -> None:
    *_, last = nearvote(server, "examples", "list").splitlines()
    assert re.sub(" +", " ", last) == "sum maxi 1, nano 0.25 sums (no text) A published set"
    assert nearvote(server, "examples", "show", "sum") == "sum  maxi 1, nano 0.25  sums  A published set\n\n(no text)\n"


def test_the_rebuild_command_says_where_those_left_out_still_are(server: AdminServer) -> None:
    parent = made_by_another_embedder(server)
    expected = f"1 examples without text could not be embedded: they are left out; version {parent} still has them"
    assert expected in nearvote(server, "index", "rebuild").splitlines()
