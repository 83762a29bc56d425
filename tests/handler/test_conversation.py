"""How long a request is and what it needs; what an agent says beside the user."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.flow import Need
from handler.wire.conversation import MEDIA_TOKENS, Measured, last_turn, measure, opening_of, text_to_embed

PIXELS = "A" * 40_000
IMAGES, AUDIO, FILES = (frozenset({need}) for need in (Need.IMAGES, Need.AUDIO, Need.FILES))
LONG = "Please rewrite this paragraph in plain English for a newsletter."


@pytest.mark.parametrize(
    ("part", "needs"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}}, IMAGES),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}}, IMAGES),
        ({"type": "input_image", "image_url": f"data:image/png;base64,{PIXELS}"}, IMAGES),
        ({"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PIXELS}"}, IMAGES),
        ({"type": "image_generation_call", "id": "ig_1", "result": PIXELS}, IMAGES),
        ({"type": "input_audio", "input_audio": {"data": PIXELS, "format": "wav"}}, AUDIO),
        ({"type": "file", "file": {"file_data": PIXELS}}, FILES),
        ({"type": "input_file", "file_data": PIXELS}, FILES),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXELS}}, FILES),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, FILES),
    ],
)
def test_a_medium_is_a_need_and_counts_the_same_however_many_bytes_it_has(
    part: dict[str, Any], needs: frozenset[Need]
) -> None:
    assert measure([part]) == Measured(MEDIA_TOKENS, needs)


def test_a_medium_inside_a_tool_s_result_counts_too() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": PIXELS}}
    # "type" and "content", "tool_result" and "text", "text" and "seen": 4 + 7 + 11 and 4 + 4 + 4 + 4 characters.
    result = {"type": "tool_result", "content": [image, {"type": "text", "text": "seen"}]}
    assert measure([result]) == Measured(MEDIA_TOKENS + 38 // 4, IMAGES)


def test_the_data_of_a_medium_of_another_kind_is_no_text() -> None:
    video = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{PIXELS}"}}
    assert measure([video]) == Measured(MEDIA_TOKENS + (4 + 9 + 9 + 3) // 4, frozenset())


def test_a_document_of_plain_text_is_text() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 4000}}
    assert measure([document]) == Measured((4 + 8 + 6 + 4 + 4 + 10 + 10 + 4 + 4000) // 4, frozenset())


@pytest.mark.parametrize("called_with", [{"type": "file", "path": "/etc/hosts"}, {"items": [{"type": "image"}]}])
def test_what_a_tool_is_called_with_is_no_medium(called_with: dict[str, Any]) -> None:
    assert measure([{"type": "tool_use", "id": "t", "name": "read", "input": called_with}]).needs == frozenset()


def test_what_a_tool_declares_is_no_medium_and_counts_as_text() -> None:
    tools = [{"name": "look", "input_schema": {"examples": [{"type": "image"}]}}]
    assert measure(tools=tools) == Measured((4 + 4 + 12 + 8 + 4 + 5) // 4, frozenset())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "type", "source", "input"]),
            inner | st.sampled_from(["image", "document", "tool_use", "text"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSON, JSON)
def test_any_json_has_a_length(said: Any, tools: Any) -> None:
    measured = measure(said, tools=tools)
    assert measured.tokens >= 0
    assert measured.needs <= set(Need)


def test_json_nested_deeper_than_python_may_call_itself_has_a_length() -> None:
    nested: Any = "four"
    for _ in range(50_000):
        nested = [nested]
    assert measure(nested) == Measured(1, frozenset())


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "aside",
    [
        "<system-reminder>\nYou have tools.\n</system-reminder>",
        "<environment_context>\n  <cwd>/home</cwd>\n</environment_context>",
        "# AGENTS.md instructions\n<INSTRUCTIONS>Be brief.</INSTRUCTIONS>",
    ],
)
def test_what_an_agent_says_beside_the_user_is_not_what_the_user_asks(aside: str) -> None:
    assert text_to_embed([user([{"type": "text", "text": aside}, {"type": "text", "text": LONG}])]).endswith(LONG)
    assert "Be brief." not in text_to_embed([user(aside), user("say hello")])
    assert "<" not in text_to_embed([user(aside), user("say hello")])


def test_an_aside_that_never_ends_is_text() -> None:
    assert text_to_embed([user("what does <system-reminder> mean in this long log file?")]) == (
        "what does <system-reminder> mean in this long log file?"
    )


def test_many_asides_that_never_end_take_no_longer_than_their_length() -> None:
    text = "<system-reminder>" * 200_000
    assert text_to_embed([user(text)]) == text


def test_the_opening_ends_with_the_user_s_first_turn() -> None:
    system, answer = {"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}
    assert opening_of([user("1"), answer, user("2")]) == opening_of([user("1")]) == [user("1")]
    assert opening_of([system, system, user("1"), answer]) == [system, system, user("1")]
    assert opening_of([answer, answer]) == [answer]
    assert opening_of([]) == []


def test_instructions_behind_the_last_turn_are_passed_over() -> None:
    result = {"role": "tool", "content": "21 °C"}
    assert last_turn([user("1"), result, {"role": "system", "content": "s"}]) == result
    assert last_turn([{"role": "developer", "content": "s"}]) == {}


def test_a_script_of_longer_characters_has_more_tokens_a_character() -> None:
    assert measure("hello there, you").tokens == 16 // 4
    assert measure("東京の天気を教えてください").tokens == 13 * 3 // 4
