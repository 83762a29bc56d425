import inspect
import re
from collections.abc import Iterator
from typing import TypeVar

import orjson
import pytest

from handler import errors
from handler.errors import ApiError, BudgetSpent, RateLimited, Shape
from handler.faults import to_api
from index.errors import (
    BadUpload,
    Conflict,
    Damaged,
    EmbedderMismatch,
    ModelFilesMissing,
    NearvoteIndexError,
    StoreUnavailable,
    UnknownExample,
    UnknownVersion,
)
from index.types import Fault

LINE = re.compile(r"[├└]── (\w+) +(\d+) +(\w+) +(\w+|\(given\)) +(yes|no)")


Error = TypeVar("Error", bound=Exception)


def below(root: type[Error]) -> Iterator[type[Error]]:
    for child in root.__subclasses__():
        yield child
        yield from below(child)


API_ERRORS: list[type[ApiError]] = [ApiError, *below(ApiError)]


def test_the_tree_that_is_drawn_is_the_tree_of_classes() -> None:
    drawn = {name: (int(status), type, retry == "yes") for name, status, type, _, retry in LINE.findall(_tree())}
    assert drawn == {each.__name__: (each.status, each.type, each.retryable) for each in API_ERRORS[1:]}


def test_the_codes_that_are_drawn_are_those_that_are_sent() -> None:
    drawn = {name: code for name, _, _, code, _ in LINE.findall(_tree()) if code != "(given)"}
    assert drawn == {name: getattr(errors, name).code for name in drawn}


def _tree() -> str:
    return inspect.getdoc(errors) or ""


@pytest.mark.parametrize("error", API_ERRORS)
def test_every_error_has_the_one_shape(error: type[ApiError]) -> None:
    response = error("what is wrong", param="field").response()
    assert (response.status_code, orjson.loads(bytes(response.body))) == (
        error.status,
        {"error": {"message": "what is wrong", "type": error.type, "param": "field", "code": error.code}},
    )
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-nearvote-retryable"] == ("true" if error.retryable else "false")


@pytest.mark.parametrize("error", API_ERRORS)
def test_every_error_has_anthropics_shape_too(error: type[ApiError]) -> None:
    response = error("what is wrong", param="field").response(Shape.ANTHROPIC)
    told = orjson.loads(bytes(response.body))
    assert response.status_code == error.status
    assert told == {
        "type": "error",
        "error": {"type": told["error"]["type"], "message": "what is wrong", "code": error.code},
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (500, "api_error"),
        (502, "api_error"),
    ],
)
def test_anthropics_types_go_by_the_status(status: int, kind: str) -> None:
    of_status = [error for error in API_ERRORS if error.status == status]
    assert {error("text").body(Shape.ANTHROPIC)["error"]["type"] for error in of_status} == {kind}


def test_when_to_try_again_is_told_and_what_is_for_nothing_is_not_tried() -> None:
    later = RateLimited("slow down", retry_after=7).response()
    assert (later.headers["retry-after"], "x-should-retry" in later.headers) == ("7", False)
    never = BudgetSpent("all gone").response()
    assert ("retry-after" in never.headers, never.headers["x-should-retry"]) == (False, "false")


@pytest.mark.parametrize("error", API_ERRORS)
def test_a_code_and_details_may_be_given(error: type[ApiError]) -> None:
    given = error("text", code="special", details={"lines": [1]})
    assert given.body() == {
        "error": {
            "message": "text",
            "type": error.type,
            "param": None,
            "code": "special",
            "details": {"lines": [1]},
        }
    }
    assert error("text").code != "special"


FAULTS: list[tuple[NearvoteIndexError, int, str, object]] = [
    (
        BadUpload([Fault(3, "not JSON"), Fault(5, "no prompt")]),
        400,
        "bad_upload",
        {"faults": [{"line": 3, "reason": "not JSON"}, {"line": 5, "reason": "no prompt"}]},
    ),
    (UnknownExample(["a", "b"]), 404, "example_not_found", {"ids": ["a", "b"]}),
    (UnknownVersion("v"), 404, "version_not_found", None),
    (EmbedderMismatch("one", "other"), 409, "embedder_mismatch", None),
    (Damaged("text"), 500, "index_damaged", None),
    (ModelFilesMissing("text"), 503, "model_files_missing", None),
    (StoreUnavailable("text"), 503, "store_unavailable", None),
    (Conflict("text"), 503, "store_unavailable", None),
]


@pytest.mark.parametrize(("fault", "status", "code", "details"), FAULTS)
def test_an_error_of_the_index_has_an_answer_of_its_own(
    fault: NearvoteIndexError, status: int, code: str, details: object
) -> None:
    told = to_api(fault)
    error = orjson.loads(bytes(told.response().body))["error"]
    assert (told.status, error["code"], error["message"], error.get("details")) == (status, code, str(fault), details)


def test_no_error_of_the_index_is_unmapped() -> None:
    assert {type(fault) for fault, *_ in FAULTS} == set(below(NearvoteIndexError))
