"""What callers of /v1/chat/completions see of a provider's faults, through the real openai client. On a server of its
own: what fails is left alone for a while."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from handler.keys import NewKey, Routing
from tests.chats import FULL, PRICES, QUESTION, chat, error_of, lines, wait_until
from tests.nearvote_server import Server, copy_home, create_key, start_nearvote


@pytest.fixture(scope="module")
def faulty(starter_home: Path, simulated_provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = copy_home(starter_home, tmp_path_factory.mktemp("faulty") / "home")
    with start_nearvote(home, {"SIMULATED_PROVIDER_URL": simulated_provider}) as server:
        yield server


@pytest.fixture(scope="module")
def sdk(faulty: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{faulty.url}/v1", api_key=faulty.key, max_retries=0, timeout=15) as client:
        yield client


@pytest.fixture(scope="module")
def http(faulty: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=faulty.url, headers={"authorization": f"Bearer {faulty.key}"}, timeout=15) as client:
        yield client


def test_a_rate_limit_is_passed_on_with_when_to_try_again(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.chat.completions.create(model="auto", messages=QUESTION, extra_body={"simulate": "429"})
    headers = refused.value.response.headers
    assert (refused.value.code, headers["retry-after"]) == ("rate_limit_exceeded", "1")
    assert headers["x-nearvote-model"] in PRICES


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_s_error_is_passed_on_as_it_is(http: httpx.Client, stream: bool) -> None:
    answer = chat(http, stream=stream, simulate="500")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert answer.json()["error"]["message"] == "Simulated server error."
    assert answer.headers["x-nearvote-cause"] == "vote"


@pytest.mark.parametrize("headers", [{}, FULL])
def test_garbage_is_no_answer(http: httpx.Client, headers: dict[str, str]) -> None:
    answer = chat(http, headers, simulate="garbage")
    assert error_of(answer) == (502, "upstream_failed", None)
    assert answer.json()["error"]["message"].endswith("answered with something that is not JSON")
    assert "x-nearvote-cost" not in answer.headers


def test_an_answer_that_is_cut_is_a_502(http: httpx.Client) -> None:
    answer = chat(http, simulate="cut")
    assert error_of(answer) == (502, "upstream_failed", None)
    assert answer.headers["x-nearvote-retryable"] == "true"


@pytest.mark.parametrize("headers", [{}, FULL])
def test_a_stream_that_is_cut_ends_with_an_error_that_the_openai_client_raises(
    sdk: openai.OpenAI, headers: dict[str, str]
) -> None:
    pieces: list[str] = []
    stream = sdk.chat.completions.create(
        model="sim-small", messages=QUESTION, stream=True, extra_headers=headers, extra_body={"simulate": "cut"}
    )
    with pytest.raises(openai.APIError, match="sim-small broke off in the middle of its answer") as raised:
        pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert raised.value.code == "upstream_failed"
    assert "".join(pieces).startswith("[simulated")


def test_neither_prompts_nor_keys_are_logged(http: httpx.Client, faulty: Server) -> None:
    key = {"authorization": f"Bearer {create_key(faulty.home, NewKey(name='test', routing=Routing.ON))}"}
    secret = key["authorization"].rpartition("-")[2]
    needle = "needle-in-the-prompt"
    messages = [{"role": "user", "content": needle}]
    for fault in (None, "429", "500", "garbage", "cut"):
        for stream in (False, True):
            chat(http, key, messages=messages, stream=stream, **({"simulate": fault} if fault else {}))
    refused = [
        chat(http, key, messages=messages, model="gpt-9"),
        chat(http, key, messages=messages, stream=needle),
        chat(http, key, messages=needle),
        chat(http, {**key, "x-nearvote-dial": needle}),
        http.post("/v1/chat/completions", content=f'{{"{needle}": '.encode(), headers=key),
        chat(http, {"authorization": key["authorization"] + "x"}, messages=messages),
    ]
    assert [answer.status_code for answer in refused] == [404, 400, 400, 400, 400, 401]
    wait_until(lambda: len(lines(faulty, event="request", key=key["authorization"].split("-")[1])) >= 9)
    logged = faulty.logged()
    assert needle not in logged
    assert secret not in logged
    assert "Traceback" not in logged
