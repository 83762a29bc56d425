"""What an upstream may do, byte for byte, before the real server."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.nearvote_server import Server, copy_home, start_nearvote
from tests.scripted_upstream import EVENT_STREAM, ScriptedUpstream, answer, scripted_upstream

PROVIDER_KEY = "sk-provider-secret"
BODY_BYTES = 100_000
SILENCE_S = 1.0
FULL = {"x-nearvote-evidence": "full"}
MESSAGES = [{"role": "user", "content": "Translate to French: a needle in a haystack"}]
ANSWER = b'{ "model":"scripted", "usage" : {"prompt_tokens": 10, "completion_tokens": 20}, "odd": 1.0 }\n'
FIRST = b': a comment\r\n\r\ndata: {"choices":[{"delta":{"content":"one"}}]}\r\n\r\n'
SECOND = b'event: message\nid: 7\ndata:{"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def fleet(url: str, refused: str) -> bytes:
    def model(name: str, base_url: str, **deployment: Any) -> dict[str, Any]:
        deployments = [{"base_url": base_url, "api_key": "${PROVIDER_KEY}", **deployment}]
        return {"name": name, "like": "small", "price": {"input": 1, "output": 2}, "deployments": deployments}

    models = [
        model("scripted", url),
        model("renamed", url, model="vendor-name"),
        model("refused", refused),
        model("nowhere", "${NO_SUCH_VARIABLE}/v1"),
        model("no-url", "http://[half-an-address/v1"),
        model("no-scheme", "provider.example/v1"),
        model("bad-key", url, api_key="${BROKEN_KEY}"),
    ]
    return orjson.dumps({"models": models})


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(shared_upstream: ScriptedUpstream) -> ScriptedUpstream:
    shared_upstream.received.clear()
    shared_upstream.steps = ()
    return shared_upstream


@pytest.fixture(scope="module")
def server(
    starter_home: Path, shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    home = copy_home(starter_home, tmp_path_factory.mktemp("edges") / "home")
    settings = {
        "NEARVOTE_UPSTREAM_SECONDS": str(SILENCE_S),
        "NEARVOTE_BODY_BYTES": str(BODY_BYTES),
        "PROVIDER_KEY": PROVIDER_KEY,
        "BROKEN_KEY": "sk-with-a-newline\n",
    }
    # Bound but not listening: the port stays ours, and refuses.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        (home / "fleet.yaml").write_bytes(fleet(shared_upstream.url, refused))
        with start_nearvote(home, settings) as server:
            yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=f"{server.url}/v1", headers=headers, timeout=10) as client:
        yield client


def chat(http: httpx.Client, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return http.post("/chat/completions", json={"model": "scripted", "messages": MESSAGES, **body}, headers=headers)


def error_of(told: httpx.Response) -> tuple[int, str]:
    return told.status_code, told.json()["error"]["code"]


def test_a_named_request_goes_on_byte_for_byte(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [answer(ANSWER)]
    sent = b'{"model":"scripted" ,\n "messages":[{"role":"user","content":"\\u00fc"}], "n": 1.0, "big": 1e2}'
    http.post("/chat/completions", content=sent)
    assert [received.body for received in upstream.received] == [sent]


def test_a_model_that_has_another_name_there_is_called_by_it(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [answer(ANSWER)]
    told = chat(http, model="renamed", temperature=0.5)
    assert orjson.loads(upstream.received[0].body) == {
        "model": "vendor-name",
        "messages": MESSAGES,
        "temperature": 0.5,
    }
    assert told.headers["x-nearvote-model"] == "renamed"


def test_the_upstream_sees_the_provider_s_key_and_no_other(
    http: httpx.Client, upstream: ScriptedUpstream, server: Server
) -> None:
    upstream.steps = [answer(ANSWER)]
    chat(http, {**FULL, "x-session-id": "s", "cookie": "a=b"})
    headers = upstream.received[0].headers
    assert headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert server.key not in str(headers)
    assert not {name for name in headers if name.startswith("x-")}
    assert "cookie" not in headers


def test_a_whole_answer_comes_back_byte_for_byte(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [answer(ANSWER, b"x-request-id: r-1", b"openai-processing-ms: 5", b"server: vendor")]
    told = chat(http)
    assert (told.status_code, told.content) == (200, ANSWER)
    assert (told.headers["x-request-id"], told.headers["openai-processing-ms"]) == ("r-1", "5")
    assert told.headers["x-nearvote-cost"] == f"{(10 * 1 + 20 * 2) / 1e6:.8f}"
    assert "vendor" not in str(told.headers)


def test_full_evidence_is_added_to_a_whole_answer_and_changes_nothing_else(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [answer(ANSWER)]
    told = chat(http, FULL).json()
    assert told.pop("nearvote")["cause"] == "named"
    assert told == orjson.loads(ANSWER)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 409, 413, 429, 451, 500, 503])
def test_an_error_of_the_upstream_comes_back_byte_for_byte(
    http: httpx.Client, upstream: ScriptedUpstream, status: int
) -> None:
    body = b'{"error": {"message": "no", "type": "t", "code": "c", "param": null}} '
    upstream.steps = [answer(body, b"retry-after: 7", status=b"%d Refused" % status)]
    for stream in (False, True):
        told = chat(http, stream=stream)
        assert (told.status_code, told.content, told.headers["retry-after"]) == (status, body, "7")
        assert told.headers["x-nearvote-model"] == "scripted"


def test_a_key_that_the_provider_does_not_take_is_not_called_the_caller_s(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [answer(b'{"error": {"message": "Incorrect API key: sk-provi***ret"}}', status=b"401 Refused")]
    told = chat(http)
    assert error_of(told) == (502, "upstream_key_refused")
    assert "sk-" not in told.text
    assert told.headers["x-should-retry"] == "false"


def test_a_stream_comes_back_byte_for_byte(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [EVENT_STREAM, FIRST, SECOND, DONE, b": after the end\n\n"]
    told = chat(http, stream=True)
    assert told.content == FIRST + SECOND + DONE + b": after the end\n\n"
    assert told.headers["content-type"] == "text/event-stream"


def test_full_evidence_comes_before_done_and_changes_no_other_byte(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [EVENT_STREAM, FIRST, SECOND, DONE]
    told = chat(http, FULL, stream=True).content
    assert told.startswith(FIRST + SECOND + b"data: {")
    assert told.endswith(b"}\n\n" + DONE)
    evidence = told.removeprefix(FIRST + SECOND).removesuffix(DONE)
    assert orjson.loads(evidence.removeprefix(b"data: "))["nearvote"]["model"] == "scripted"


@pytest.mark.parametrize("headers", [{}, FULL])
def test_no_chunk_waits_for_the_next_one(
    http: httpx.Client, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    first_seen, second_seen = threading.Event(), threading.Event()
    upstream.steps = [EVENT_STREAM, FIRST, first_seen, SECOND, second_seen, DONE]
    body = {"model": "scripted", "messages": MESSAGES, "stream": True}
    with http.stream("POST", "/chat/completions", json=body, headers=headers) as told:
        chunks = told.iter_raw()
        assert next(chunks) == FIRST  # the upstream says nothing more before it was seen here
        first_seen.set()
        assert next(chunks) == SECOND
        second_seen.set()
        assert b"".join(chunks).endswith(DONE)


def test_an_answer_that_is_compressed_although_nobody_asked_can_still_be_read(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [answer(gzip.compress(ANSWER), b"content-encoding: gzip")]
    assert chat(http).content == ANSWER
    assert upstream.received[0].headers["accept-encoding"] == "identity"


def test_one_caller_s_cookies_never_travel_with_the_next_request(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [answer(ANSWER, b"set-cookie: session=one; path=/")]
    assert "set-cookie" not in chat(http).headers
    chat(http)
    assert ["cookie" in received.headers for received in upstream.received] == [False, False]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [b"not HTTP at all\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 100_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n"],
    ],
    ids=["nothing", "not HTTP", "endless head", "half a head"],
)
def test_an_upstream_that_does_not_speak_http_is_a_502(
    http: httpx.Client, upstream: ScriptedUpstream, steps: list[bytes], stream: bool
) -> None:
    upstream.steps = steps
    assert error_of(chat(http, stream=stream)) == (502, "upstream_failed")


@pytest.mark.parametrize("model", ["refused", "no-scheme", "no-url"])
def test_an_upstream_that_cannot_be_reached_is_a_502(http: httpx.Client, model: str) -> None:
    told = chat(http, model=model)
    assert error_of(told) == (502, "upstream_failed")
    assert told.json()["error"]["message"].startswith(f"{model} cannot be reached: ")
    assert told.headers["x-nearvote-retryable"] == "true"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere", "fleet.yaml refers to ${NO_SUCH_VARIABLE}, which is not set in the environment or in the secret"),
        ("bad-key", "its API key has characters that a header cannot carry"),
    ],
)
def test_a_deployment_that_is_not_configured_says_what_is_missing(http: httpx.Client, model: str, words: str) -> None:
    told = chat(http, model=model)
    assert error_of(told) == (503, "deployment_not_configured")
    assert told.json()["error"]["message"] == f"{model} cannot be called: {words}"


def elapsed(work: Callable[[], httpx.Response]) -> tuple[float, httpx.Response]:
    started = time.monotonic()
    told = work()
    return time.monotonic() - started, told


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_does_not_answer_is_a_504_after_the_time_that_was_set(
    http: httpx.Client, upstream: ScriptedUpstream, stream: bool
) -> None:
    answers = threading.Event()
    upstream.steps = [answers]
    seconds, told = elapsed(lambda: chat(http, stream=stream))
    answers.set()
    assert error_of(told) == (504, "upstream_timeout")
    assert SILENCE_S <= seconds < SILENCE_S + 2


def test_an_upstream_that_falls_silent_in_a_whole_answer_is_a_504(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    answers = threading.Event()
    upstream.steps = [answer(ANSWER[:20], length=len(ANSWER)), answers]
    told = chat(http)
    answers.set()
    assert error_of(told) == (504, "upstream_timeout")


@pytest.mark.parametrize("headers", [{}, FULL])
def test_an_upstream_that_falls_silent_in_a_stream_ends_it_with_an_error_event(
    http: httpx.Client, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    answers = threading.Event()
    upstream.steps = [EVENT_STREAM, FIRST, answers]
    told = chat(http, headers, stream=True).content
    answers.set()
    assert told.startswith(FIRST + b"\n\ndata: ")
    assert orjson.loads(told.removeprefix(FIRST + b"\n\ndata: ")) == {
        "error": {
            "message": "scripted fell silent in the middle of its answer",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_timeout",
        }
    }


def test_an_answer_without_end_is_not_kept_in_memory(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [EVENT_STREAM.replace(b"text/event-stream", b"application/json"), *[b" " * 2**20] * 130]
    told = chat(http)
    assert error_of(told) == (502, "upstream_failed")
    assert told.json()["error"]["message"] == "scripted answered with more than 134217728 bytes"


def test_a_whole_answer_that_breaks_off_is_a_502(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [answer(ANSWER[:20], length=len(ANSWER))]
    assert error_of(chat(http)) == (502, "upstream_failed")


def test_a_stream_that_breaks_off_in_the_middle_of_an_event_ends_with_an_error_event(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    half_seen = threading.Event()
    chunked = EVENT_STREAM.replace(b"connection: close", b"transfer-encoding: chunked")
    upstream.steps = [chunked, b"ff\r\n" + FIRST + b"data: {", half_seen]
    body = {"model": "scripted", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", "/chat/completions", json=body) as told:
        chunks = told.iter_raw()
        assert next(chunks) == FIRST  # half an event is kept back
        half_seen.set()
        event = b"".join(chunks)
    assert orjson.loads(event.removeprefix(b"\n\ndata: "))["error"]["code"] == "upstream_failed"


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    body = orjson.dumps({"model": "scripted", "messages": MESSAGES, "padding": "x" * BODY_BYTES})
    assert error_of(http.post("/chat/completions", content=body)) == (413, "body_too_large")

    def in_pieces() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    assert error_of(http.post("/chat/completions", content=in_pieces())) == (413, "body_too_large")
    assert upstream.received == []


def test_a_body_of_the_size_that_is_allowed_is_taken(http: httpx.Client, upstream: ScriptedUpstream) -> None:
    upstream.steps = [answer(ANSWER)]
    body = orjson.dumps({"model": "scripted", "messages": MESSAGES, "padding": ""})
    body = body.replace(b'"padding":""', b'"padding":"' + b"x" * (BODY_BYTES - len(body)) + b'"')
    assert len(body) == BODY_BYTES
    assert http.post("/chat/completions", content=body).status_code == 200
    assert upstream.received[0].body == body


def test_a_body_nested_too_deeply_to_be_written_again_is_refused_and_else_passed_on(
    http: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.steps = [answer(ANSWER)]

    def deep(model: str) -> bytes:
        nested = b"[" * 900 + b"]" * 900
        return orjson.dumps({"model": model, "messages": MESSAGES})[:-1] + b',"nested":' + nested + b"}"

    assert error_of(http.post("/chat/completions", content=deep("renamed"))) == (400, "invalid_json")
    assert error_of(http.post("/chat/completions", content=deep("auto"))) == (400, "invalid_json")
    assert http.post("/chat/completions", content=deep("scripted")).status_code == 200
    assert [received.body for received in upstream.received] == [deep("scripted")]


def test_nothing_secret_is_told_or_logged_when_calls_fail(
    http: httpx.Client, upstream: ScriptedUpstream, server: Server
) -> None:
    told = [chat(http, model=model) for model in ("refused", "nowhere", "no-url", "no-scheme", "bad-key")]
    upstream.steps = [b"not HTTP\r\n\r\n"]
    told.append(chat(http))
    text = "".join(each.text for each in told) + server.logged()
    assert PROVIDER_KEY not in text
    assert "sk-with-a-newline" not in text
    assert "needle" not in server.logged()
    assert "Traceback" not in text
