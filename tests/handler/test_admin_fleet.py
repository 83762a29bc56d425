"""/admin/v1/fleet over HTTP."""

import threading
from typing import Any

import httpx
import pytest

from handler.control.fleet import BODY_BYTES
from handler.fleet import KEY, version_of
from tests.admin_server import FLEET, AdminServer, refused, told

PATH = "/admin/v1/fleet"
SMALL = """
models:
  - {name: one, price: {input: 1, output: 2}, tools: true, deployments: [{base_url: "http://x/v1", api_key: sk-1}]}
rules:
  - {name: long, when: {min_tokens: 1000}, dial: 3}
"""
VERSION = version_of(SMALL.encode())


def put(server: AdminServer, text: str, **query: str) -> httpx.Response:
    return server.client.put(PATH, content=text.encode(), params=query)


def test_the_fleet_is_described_without_keys(admin_server: AdminServer) -> None:
    told(put(admin_server, SMALL))
    shown = told(admin_server.client.get(PATH))
    assert shown == {
        "version": VERSION,
        "catalogue_date": None,
        "default": "one",
        "models": [
            {
                "name": "one",
                "price": {
                    "input": 1.0,
                    "output": 2.0,
                    "cached_input": None,
                    "cache_write": None,
                    "cache_write_1h": None,
                },
                "deployments": [
                    {
                        "base_url": "http://x/v1",
                        "model": "",
                        "weight": 1.0,
                        "protocols": ["chat"],
                        "stream_usage": True,
                    }
                ],
                "like": None,
                "catalogue": None,
                "effort": None,
                "context": None,
                "max_output": None,
                "cache_seconds": 300.0,
                "images": None,
                "audio": None,
                "files": None,
                "tools": True,
                "schema": None,
                "protocols": ["chat"],
                "from_catalogue": [],
            }
        ],
        "rules": [{"name": "long", "when": {"min_tokens": 1000}, "dial": 3.0}],
    }


def test_what_was_left_to_the_catalogue_is_named(admin_server: AdminServer) -> None:
    put(admin_server, "models: [{name: gpt-5-mini, tools: true, deployments: [{base_url: u}]}]")
    shown = told(admin_server.client.get(PATH))
    (model,) = shown["models"]
    assert shown["catalogue_date"] is not None
    assert {"price", "context"} <= set(model["from_catalogue"])
    assert "tools" not in model["from_catalogue"]


def test_the_text_is_what_was_put(admin_server: AdminServer) -> None:
    assert told(admin_server.client.get(f"{PATH}/text")) == {"version": version_of(FLEET.encode()), "text": FLEET}


def test_a_fleet_is_replaced_and_says_what_it_replaced(admin_server: AdminServer) -> None:
    report = told(put(admin_server, SMALL))
    assert (report["version"], report["replaced"]) == (VERSION, version_of(FLEET.encode()))
    assert (admin_server.home / KEY).read_text() == SMALL


def test_a_fleet_is_put_where_there_is_none(admin_server: AdminServer) -> None:
    (admin_server.home / KEY).unlink()
    assert refused(put(admin_server, SMALL, expected=VERSION)) == (409, changed(f"version none, not {VERSION}"))
    assert told(put(admin_server, SMALL))["replaced"] is None


def test_a_fleet_that_is_not_the_expected_one_is_left(admin_server: AdminServer) -> None:
    there = version_of(FLEET.encode())
    assert refused(put(admin_server, SMALL, expected="0" * 16)) == (409, changed(f"version {there}, not {'0' * 16}"))
    assert (admin_server.home / KEY).read_text() == FLEET
    assert told(put(admin_server, SMALL, expected=there))["version"] == VERSION


def changed(versions: str) -> dict[str, Any]:
    message = f"nothing was stored: the fleet is at {versions}; look at it again and repeat"
    return {"message": message, "type": "invalid_request_error", "param": None, "code": "fleet_changed"}


def test_of_two_who_expect_the_same_fleet_one_is_stored(admin_server: AdminServer) -> None:
    there = version_of(FLEET.encode())
    texts = [SMALL.replace("name: one", f"name: m{number}") for number in range(8)]
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda text=text: answers.append(put(admin_server, text, expected=there).status_code))
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [409] * 7


def test_a_bad_fleet_is_refused_with_its_lines(admin_server: AdminServer) -> None:
    status, error = refused(put(admin_server, SMALL.replace("input: 1", "input: -1").replace("dial: 3", "dial: 30")))
    assert (status, error["code"]) == (400, "bad_fleet")
    assert [(fault["line"], fault["reason"].partition(":")[0]) for fault in error["details"]["faults"]] == [
        (3, "models.0.price.input"),
        (5, "rules.0.dial"),
    ]
    assert (admin_server.home / KEY).read_text() == FLEET


def test_what_is_not_yaml_is_refused_with_its_line(admin_server: AdminServer) -> None:
    _, error = refused(put(admin_server, "models:\n  - name: [\n"))
    assert [fault["line"] for fault in error["details"]["faults"]] == [3]


def test_a_fleet_that_is_too_large_is_refused(admin_server: AdminServer) -> None:
    status, error = refused(put(admin_server, "#" * (BODY_BYTES + 1)))
    assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", [PATH, f"{PATH}/text", "/admin/v1/dial"])
def test_without_a_fleet_file_there_is_nothing_to_show(admin_server: AdminServer, path: str) -> None:
    (admin_server.home / KEY).unlink()
    status, error = refused(admin_server.client.get(path))
    assert (status, error["code"], error["message"]) == (409, "bad_fleet", "there is no fleet.yaml in the store")


def test_a_broken_fleet_file_in_the_store_is_told_and_can_be_replaced(admin_server: AdminServer) -> None:
    (admin_server.home / KEY).write_text("models: []")
    status, error = refused(admin_server.client.get(PATH))
    assert (status, error["code"]) == (409, "bad_fleet")
    assert told(admin_server.client.get(f"{PATH}/text"))["text"] == "models: []"
    assert told(put(admin_server, SMALL))["version"] == VERSION


def test_an_unknown_parameter_is_refused(admin_server: AdminServer) -> None:
    for answer in (put(admin_server, SMALL, expect="x"), admin_server.client.get(PATH, params={"a": "b"})):
        assert refused(answer)[0] == 400
