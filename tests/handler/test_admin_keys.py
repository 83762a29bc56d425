"""/admin/v1/keys over HTTP; and who may use the control plane at all."""

import re
from typing import Any

import httpx
import pytest

from tests.admin_server import AdminServer, refused, told

KEYS = "/admin/v1/keys"
FULL = {
    "name": "all",
    "admin": False,
    "routing": "on",
    "default_model": "mini",
    "dial": 2.5,
    "allow": ["m*"],
    "exclude": ["maxi"],
    "expires_at": 4_000_000_000,
}


def create(server: AdminServer, **options: object) -> Any:
    return told(server.client.post(KEYS, json={"name": "a", **options}))


def answers(server: AdminServer, authorization: str | None) -> set[tuple[int, str]]:
    """What all routes answer: the same, one would hope."""
    headers = {} if authorization is None else {"authorization": authorization}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        found = [refused(client.request(method, path)) for method, path in server.routes if method != "HEAD"]
    assert len(found) == 22
    return {(status, error["code"]) for status, error in found}


def status_with(server: AdminServer, key: str) -> int:
    return httpx.get(f"{server.url}/admin/v1/index", headers={"authorization": f"Bearer {key}"}).status_code


def test_no_route_answers_without_a_key(admin_server: AdminServer) -> None:
    assert answers(admin_server, None) == {(401, "missing_api_key")}


def test_no_route_answers_a_wrong_key(admin_server: AdminServer) -> None:
    wrong = admin_server.admin_key[:-1] + ("a" if admin_server.admin_key[-1] != "a" else "b")
    assert answers(admin_server, f"Bearer {wrong}") == {(401, "invalid_api_key")}
    assert answers(admin_server, f"Basic {admin_server.admin_key}") == {(401, "missing_api_key")}


def test_no_route_answers_a_key_that_is_no_admin_key(admin_server: AdminServer) -> None:
    key = create(admin_server, routing="on")["key"]
    assert answers(admin_server, f"Bearer {key}") == {(403, "admin_only")}


def test_a_refusal_comes_before_the_body_is_read(admin_server: AdminServer) -> None:
    answer = httpx.post(f"{admin_server.url}/admin/v1/examples", content=b"x" * 2**20)
    assert refused(answer)[1]["code"] == "missing_api_key"


def test_a_key_is_created_with_routing_off(admin_server: AdminServer) -> None:
    answer = admin_server.client.post(KEYS, json={"name": "plain"})
    record = told(answer)
    assert answer.status_code == 201
    assert re.fullmatch(r"[0-9a-f]{12}", record["id"])
    assert re.fullmatch(f"nv-{record['id']}-[0-9A-Za-z]{{43}}", record["key"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["created_at"])
    assert {name: value for name, value in record.items() if name not in ("id", "key", "created_at")} == {
        "name": "plain",
        "admin": False,
        "routing": "off",
        "default_model": None,
        "dial": 7.0,
        "allow": [],
        "exclude": [],
        "route_models": [],
        "baseline_model": None,
        "budget_day": None,
        "budget_month": None,
        "budget_total": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "max_latency_ms": None,
        "speed": None,
        "expires_at": None,
        "revoked": False,
    }


def test_a_key_is_created_with_all_that_can_be_chosen(admin_server: AdminServer) -> None:
    record = told(admin_server.client.post(KEYS, json=FULL))
    assert {name: record[name] for name in FULL} == FULL


def test_the_secret_is_shown_once_and_its_hash_never(admin_server: AdminServer) -> None:
    record = create(admin_server)
    key = record.pop("key")
    assert told(admin_server.client.get(f"{KEYS}/{record['id']}")) == record
    listed = admin_server.client.get(KEYS)
    assert record in told(listed)["data"]
    assert key.rpartition("-")[2] not in listed.text
    assert "digest" not in listed.text


def test_keys_are_listed_by_id_also_revoked_ones(admin_server: AdminServer) -> None:
    made = [create(admin_server, name=name)["id"] for name in "abc"]
    admin_server.client.delete(f"{KEYS}/{made[0]}")
    listed = told(admin_server.client.get(KEYS))["data"]
    assert [record["id"] for record in listed] == sorted(record["id"] for record in listed)
    assert {record["name"]: record["revoked"] for record in listed} == {
        "operator": False,
        "a": True,
        "b": False,
        "c": False,
    }


def test_a_change_leaves_what_it_does_not_name(admin_server: AdminServer) -> None:
    record = told(admin_server.client.post(KEYS, json=FULL))
    del record["key"]
    changed = told(admin_server.client.patch(f"{KEYS}/{record['id']}", json={"dial": 0, "default_model": None}))
    assert changed == record | {"dial": 0.0, "default_model": None}
    assert told(admin_server.client.get(f"{KEYS}/{record['id']}")) == changed


def test_a_change_of_nothing_changes_nothing(admin_server: AdminServer) -> None:
    record = create(admin_server)
    del record["key"]
    assert told(admin_server.client.patch(f"{KEYS}/{record['id']}", json={})) == record


def test_a_revoked_key_stops_working_and_stays_so(admin_server: AdminServer) -> None:
    record = create(admin_server, admin=True)
    key = record.pop("key")
    assert status_with(admin_server, key) == 200
    assert told(admin_server.client.delete(f"{KEYS}/{record['id']}")) == record | {"revoked": True}
    assert status_with(admin_server, key) == 401
    changed = told(admin_server.client.patch(f"{KEYS}/{record['id']}", json={"routing": "on"}))
    assert changed == record | {"revoked": True, "routing": "on"}
    assert status_with(admin_server, key) == 401


def test_an_expired_key_does_not_work(admin_server: AdminServer) -> None:
    record = create(admin_server, admin=True, expires_at=1)
    assert status_with(admin_server, record["key"]) == 401
    admin_server.client.patch(f"{KEYS}/{record['id']}", json={"expires_at": None})
    assert status_with(admin_server, record["key"]) == 200


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_unknown_id_is_not_found(admin_server: AdminServer, method: str) -> None:
    content = b"{}" if method == "PATCH" else b""
    for id in ("0123456789ab", "nonsense", "%C3%BC%00"):
        status, error = refused(admin_server.client.request(method, f"{KEYS}/{id}", content=content))
        assert (status, error["code"]) == (404, "key_not_found")
        assert error["message"].endswith("; `nearvote keys list` shows those that exist")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 1}, "name"),
        ({"name": "a", "dial": 10.5}, "dial"),
        ({"name": "a", "dial": "7"}, "dial"),
        ({"name": "a", "routing": "yes"}, "routing"),
        ({"name": "a", "admin": "true"}, "admin"),
        ({"name": "a", "allow": "m*"}, "allow"),
        ({"name": "a", "exclude": ["ok", ""]}, "exclude.1"),
        ({"name": "a", "default_model": ""}, "default_model"),
        ({"name": "a", "expires_at": 0}, "expires_at"),
        ({"name": "a", "budget_day": 0}, "budget_day"),
        ({"name": "a", "budget_total": "5"}, "budget_total"),
        ({"name": "a", "requests_per_minute": 0.5}, "requests_per_minute"),
        ({"name": "a", "tokens_per_minute": 2_000_000_000}, "tokens_per_minute"),
        ({"name": "a", "speed": 1.1}, "speed"),
        ({"name": "a", "revoked": True}, "revoked"),
        ({"name": "a", "colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_taken_is_named(admin_server: AdminServer, body: object, field: str) -> None:
    status, error = refused(admin_server.client.post(KEYS, json=body))
    assert (status, error["param"], error["code"]) == (400, field, "invalid_value")
    assert error["message"].startswith(f"{field}: ")
    assert len(told(admin_server.client.get(KEYS))["data"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"admin": True}, "admin"),
        ({"revoked": False}, "revoked"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"routing": None}, "routing"),
        ({"dial": -1}, "dial"),
    ],
)
def test_what_cannot_be_changed_is_named(admin_server: AdminServer, body: object, field: str) -> None:
    record = create(admin_server)
    del record["key"]
    status, error = refused(admin_server.client.patch(f"{KEYS}/{record['id']}", json=body))
    assert (status, error["param"]) == (400, field)
    assert told(admin_server.client.get(f"{KEYS}/{record['id']}")) == record


def test_a_body_that_is_no_json_object_is_refused(admin_server: AdminServer) -> None:
    for content in (b"", b"{", b"[]", b"null", b"\xff", b'{"name": "a"} x'):
        status, error = refused(admin_server.client.post(KEYS, content=content))
        assert (status, error["code"]) == (400, "invalid_json")


def test_a_body_that_is_too_large_is_refused(admin_server: AdminServer) -> None:
    assert refused(admin_server.client.post(KEYS, content=b" " * (64 * 1024 + 1))) == (
        413,
        {
            "message": "the body has 65537 bytes; at most 65536 are taken",
            "type": "invalid_request_error",
            "param": None,
            "code": "body_too_large",
        },
    )


def test_other_methods_and_places_are_refused_in_the_same_shape(admin_server: AdminServer) -> None:
    assert refused(admin_server.client.put(KEYS))[0] == 405
    assert refused(admin_server.client.get("/admin/v1/kees"))[0] == 404
