"""Which conversation a request belongs to and whose turn it is, by what real clients send."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from handler.errors import BadRequest
from handler.flow import Ask, Turn
from handler.wire import chat_completions, messages, responses
from handler.wire.session import LONGEST_ID, session_of, turn_of

EVENTS = Path(__file__).parents[1] / "events" / "agents"
"""What Claude Code 2.1.332 and Codex 0.169.0 sent, cut short and without ids."""
OPENING = ["You are helpful.", {"role": "user", "content": "Hello"}]


def agent(name: str) -> Ask:
    event = orjson.loads((EVENTS / f"{name}.json").read_bytes())
    read = messages.read if name.startswith("claude-code") else responses.read
    return read(orjson.dumps(event["body"]), event["headers"])


@pytest.mark.parametrize(
    ("name", "turn", "text"),
    [
        ("claude-code-user", Turn.USER, "use a tool to say hello, please, and tell me what it said"),
        ("claude-code-tool-result", Turn.TOOL_RESULT, "use a tool to say hello, please, and tell me what it said"),
        ("claude-code-subagent", Turn.SUBAGENT, "simulated"),
        ("codex-user", Turn.USER, "use a tool to list the files"),
        ("codex-tool-result", Turn.TOOL_RESULT, "use a tool to list the files"),
    ],
)
def test_a_real_agent_s_turn_is_known_and_what_the_user_asked_is_read(name: str, turn: Turn, text: str) -> None:
    ask = agent(name)
    assert (ask.turn, ask.prompt.text) == (turn, text)


def test_a_real_agent_s_next_step_is_of_the_same_conversation_and_a_subagent_s_is_not() -> None:
    asked, answered, aside = (agent(f"claude-code-{name}").session for name in ("user", "tool-result", "subagent"))
    assert asked == answered != aside
    assert agent("codex-user").session == agent("codex-tool-result").session


def test_real_agents_ask_for_the_prompt_cache_by_marks_or_leave_it_to_the_provider() -> None:
    assert agent("claude-code-user").writes_cache
    assert not agent("codex-user").writes_cache
    assert not agent("codex-user").is_kept  # store: false, so nothing can lean on the answer


@pytest.mark.parametrize(
    "headers",
    [
        {"x-session-id": "s"},
        {"x-claude-code-session-id": "s"},
        {"session-id": "s"},
        {"session_id": "s"},
        {"conversation_id": "s"},
        {"x-session-affinity": "s", "x-session-id": "s"},
        {"x-litellm-session-id": "s"},
    ],
)
def test_a_session_is_named_by_any_client_s_header(headers: dict[str, str]) -> None:
    assert session_of({}, headers, OPENING) == session_of({"session_id": "s"}, {}, OPENING)


@pytest.mark.parametrize(
    "body",
    [
        {"session_id": "s"},
        {"prompt_cache_key": "s"},
        {"metadata": {"user_id": '{"device_id": "d", "account_uuid": "", "session_id": "s"}'}},
        {"metadata": {"user_id": "user_1_account_2_session_s"}},
    ],
)
def test_a_session_is_named_in_the_body(body: dict[str, Any]) -> None:
    assert session_of(body, {}, OPENING) == session_of({}, {"x-session-id": "s"}, OPENING)


@pytest.mark.parametrize("user", ["u", "", "{}", "[1]", '{"session_id": 3}', 3, None, {}, "[" * 3000])
def test_a_user_without_a_session_names_none(user: Any) -> None:
    assert session_of({"metadata": {"user_id": user}}, {}, OPENING) == session_of({}, {}, OPENING)


def test_agents_that_share_a_session_s_name_have_conversations_of_their_own() -> None:
    root = {"session-id": "s", "thread-id": "s"}
    children = [{"session-id": "s", "thread-id": id, "x-openai-subagent": "collab_spawn"} for id in ("a", "b")]
    assert len({session_of({}, headers, OPENING) for headers in (root, *children)}) == 3


def test_a_title_asked_for_under_the_same_name_is_another_conversation() -> None:
    named = {"x-claude-code-session-id": "s"}
    assert session_of({}, named, OPENING) != session_of({}, named, ["Write a title.", OPENING[1]])


def test_without_a_name_the_opening_tells_and_without_an_opening_nothing_does() -> None:
    other = ["You are helpful.", {"role": "user", "content": "Good bye"}]
    assert session_of({}, {}, OPENING) == session_of({}, {}, list(OPENING)) != session_of({}, {}, other)
    assert session_of({}, {}, [None, {"role": "user", "content": []}]) == ""


@pytest.mark.parametrize("turns", [1, 3, 5])
def test_a_conversation_without_a_name_stays_itself_from_its_first_turn_on(turns: int) -> None:
    said = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")][:turns]
    first = {"model": "auto", "messages": said[:1]}
    later = {"model": "auto", "messages": said}
    for read in (chat_completions.read, messages.read):
        assert read(orjson.dumps(later), {}).session == read(orjson.dumps(first), {}).session
    items = responses.read(orjson.dumps({"model": "auto", "input": said}), {})
    text = responses.read(orjson.dumps({"model": "auto", "input": "user 0"}), {})
    assert items.session == text.session


@pytest.mark.parametrize("id", ["", "x" * (LONGEST_ID + 1), 3, [], {}])
def test_a_session_id_that_is_none_is_refused(id: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        session_of({"session_id": id}, {}, OPENING)
    assert refused.value.param == "session_id"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-claude-code-agent-id": "a"},
        {"x-claude-code-request-class": "auxiliary"},
        {"x-claude-code-request-class": "subagent"},
        {"x-claude-code-request-class": "workflow"},
        {"x-openai-subagent": "review"},
        {"x-codex-parent-thread-id": "t"},
        {"x-parent-session-id": "s", "x-session-affinity": "child", "user-agent": "opencode/1.0"},
    ],
)
def test_a_call_on_the_side_is_known_by_its_headers(headers: dict[str, str]) -> None:
    assert turn_of(headers, ends_in_tool_result=True) is Turn.SUBAGENT


@pytest.mark.parametrize("request_class", ["main", "compaction", "something new"])
def test_a_main_call_is_the_user_s_or_a_tool_s(request_class: str) -> None:
    headers = {"x-claude-code-request-class": request_class}
    assert turn_of(headers, ends_in_tool_result=False) is Turn.USER
    assert turn_of(headers, ends_in_tool_result=True) is Turn.TOOL_RESULT
