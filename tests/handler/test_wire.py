from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.errors import BadRequest
from handler.flow import Ask, Need, Preferences, Prompt, Usage
from handler.wire import chat_completions
from handler.wire.conversation import measure, text_of, text_to_embed
from handler.wire.fields import MOST_TOKENS
from handler.wire.preferences import read_preferences
from handler.wire.session import session_of

LONG = "Please rewrite this paragraph in plain English for a newsletter."
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("  hello \n", "hello"),
        ("", ""),
        (None, ""),
        (7, ""),
        (True, ""),
        ([], ""),
        ({}, ""),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": " two "}], "one\ntwo"),
        (["one", "two"], "one\ntwo"),
        ([["one"], [["two"]]], "one\ntwo"),
        ([{"type": "input_text", "text": "one"}], "one"),
        ({"type": "text", "text": "one"}, "one"),
        ([{"type": "text", "text": {"value": "one", "annotations": []}}], "one"),
        ([{"type": "text", "text": "", "content": "one"}], "one"),
        ([{"type": "text", "text": None}], ""),
        ([{"type": "refusal", "refusal": "I cannot"}], "I cannot"),
        ([{"type": "tool_result", "content": [{"type": "text", "text": "21 °C"}]}], "21 °C"),
        ([{"type": "tool_result", "content": "21 °C"}], "21 °C"),
        ([{"type": "text", "text": "what is this?"}, IMAGE], "what is this?\n[image]"),
        ([IMAGE, IMAGE], "[image]\n[image]"),
        ([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}], "[audio]"),
        ([{"type": "file", "file": {"file_id": "f"}}], "[file]"),
        ([{"type": "video_url", "video_url": {"url": "u"}}], "[video]"),
        ([{"type": "something_else"}, {"type": 5}, {"type": {}}, 3, None], ""),
    ],
)
def test_the_text_of_a_content(content: Any, text: str) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([user(LONG)], LONG),
        ([{"role": "system", "content": "Be terse."}, user(LONG)], LONG),
        ([user("Translate 'good morning' to Spanish"), user("and in French?")], None),
        ([user(LONG), {"role": "assistant", "content": "Done."}, user("shorter")], f"{LONG}\nshorter"),
        ([user("hi")], "hi"),
        ([user("one"), user("two"), user("three")], "two\nthree"),
        ([user(LONG), user("continue"), user("continue"), user("yes, do it")], f"{LONG}\nyes, do it"),
        ([user("z" * 40), user("x" * 40), user("continue"), user("ok")], "x" * 40 + "\nok"),
        ([user("what is this?"), user([IMAGE])], "what is this?\n[image]"),
        ([user([IMAGE])], "[image]"),
        ([user(LONG), user("   "), user(None), user([])], LONG),
        ([{"role": "system", "content": "Say hello."}], "Say hello."),
        ([{"role": "system", "content": "A"}, {"role": "assistant", "content": "B"}, user("")], "B"),
        ([user(None), {"role": "assistant", "content": None, "tool_calls": []}], ""),
        ([user("x" * 40), user("y" * 40)], "y" * 40),
        ([user("x" * 40), user("y" * 39)], "x" * 40 + "\n" + "y" * 39),
        ([], ""),
    ],
)
def test_what_is_embedded_of_a_conversation(messages: list[Any], text: str | None) -> None:
    if text is None:
        text = "Translate 'good morning' to Spanish\nand in French?"
    assert text_to_embed(messages) == text


def test_an_agent_step_is_about_what_the_user_asked_not_about_the_tools_result() -> None:
    messages = [
        user(LONG),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "c", "content": '{"rows": 3}'},
    ]
    assert text_to_embed(messages) == LONG


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type", "value", "other"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=5))
def test_any_json_gives_a_text(messages: list[Any]) -> None:
    assert isinstance(text_to_embed(messages), str)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A content in which the inner one is somewhere."""
    return st.one_of(
        st.tuples(st.lists(JSON, max_size=2), inner, st.lists(JSON, max_size=2)).map(lambda t: [*t[0], t[1], *t[2]]),
        st.builds(
            lambda field, value, more: {"type": "text", **more, field: value},
            st.sampled_from(["text", "content", "value"]),
            inner,
            st.dictionaries(st.sampled_from(["text", "content", "type", "other"]), JSON, max_size=3),
        ),
    )


@given(
    before=st.lists(JSON, max_size=3),
    role=st.sampled_from(["user", "tool", "system", None]),
    content=st.recursive(st.just("needle"), wrapped, max_leaves=5),
)
def test_text_is_never_lost_however_it_is_wrapped(before: list[Any], role: str | None, content: Any) -> None:
    assert "needle" in text_of(content)
    assert text_to_embed([*before, {"role": role, "content": content}]) != ""


@pytest.mark.parametrize(
    ("opened", "closed", "depth", "text"),
    [
        ("[", "]", 1000, "needle"),
        ('{"text":', "}", 1000, "needle"),
        ('[{"content":', "}]", 500, "needle"),
        ('{"type":', "}", 1000, ""),
    ],
)
def test_text_nested_deeper_than_python_may_call_itself_is_read(
    opened: str, closed: str, depth: int, text: str
) -> None:
    content = opened * depth + '"needle"' + closed * depth
    body = f'{{"model": "auto", "messages": [{{"role": "user", "content": {content}}}]}}'
    assert chat_completions.read(body.encode(), {}).prompt.text == text


def test_a_request_is_read_whole() -> None:
    body: dict[str, Any] = {
        "model": "nearvote/auto",
        "messages": [{"role": "system", "content": "s" * 200}, user([{"type": "text", "text": "t" * 200}, IMAGE])],
        "stream": True,
        "max_tokens": 50,
        "models": ["a", "b"],
        "session_id": "s-1",
        "plugins": [
            {
                "id": "auto-router",
                "cost_quality_tradeoff": 3,
                "allowed_models": ["openai/*"],
                "excluded_models": ["*-pro"],
            },
            {"id": "web", "max_results": 3},
        ],
        "metadata": {"kept": [1, 2.5, None]},
    }
    raw = orjson.dumps(body)
    headers = {"x-nearvote-evidence": "full", "authorization": "Bearer nv"}
    tokens = measure(body["messages"]).tokens
    assert chat_completions.read(raw, headers) == Ask(
        model="nearvote/auto",
        stream=True,
        prompt=Prompt("t" * 200 + "\n[image]", input_tokens=tokens, output_tokens=50, most_output_tokens=50),
        preferences=Preferences(
            dial=3.0, allow=("openai/*",), exclude=("*-pro",), models=("a", "b"), full_evidence=True
        ),
        body={
            "model": "nearvote/auto",
            "messages": body["messages"],
            "stream": True,
            "max_tokens": 50,
            "plugins": [{"id": "web", "max_results": 3}],
            "metadata": {"kept": [1, 2.5, None]},
            "stream_options": {"include_usage": True},
        },
        raw=None,
        headers=headers,
        needs=frozenset({Need.IMAGES}),
        session=session_of(body, {}, body["messages"]),
        adds_usage=True,
    )


def test_a_named_model_keeps_the_models_field_which_is_its_providers_business() -> None:
    body = {"model": "m", "messages": [user("hi")], "models": ["m", "n"], "session_id": "s"}
    ask = chat_completions.read(orjson.dumps(body), {})
    assert (ask.body, ask.preferences) == (
        {"model": "m", "messages": [user("hi")], "models": ["m", "n"]},
        Preferences(),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "m" * 257),
        ("models", ["m"] * 101),
        ("plugins.allowed_models", [{"id": "auto-router", "allowed_models": ["m"] * 101}]),
        ("plugins.excluded_models.0", [{"id": "auto-router", "excluded_models": ["m" * 201]}]),
    ],
)
def test_what_is_matched_with_each_model_is_bounded(field: str, value: Any) -> None:
    body = {"model": "auto", "messages": [user("hi")], field.partition(".")[0]: value}
    with pytest.raises(BadRequest) as refused:
        chat_completions.read(orjson.dumps(body), {})
    assert refused.value.param == field


def test_what_no_upstream_can_have_counted_is_cut() -> None:
    usage = {"usage": {"prompt_tokens": 2**64 - 1, "completion_tokens": 3}}
    assert chat_completions.usage_in(usage, None) == Usage(MOST_TOKENS, 3)


def test_a_body_with_nothing_of_nearvotes_own_may_go_on_as_it_came() -> None:
    raw = b'{ "model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 1.0 }'
    assert chat_completions.read(raw, {}).raw == raw


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 500),
        ({"max_tokens": 20}, 20),
        ({"max_completion_tokens": 30, "max_tokens": 20}, 20),
        ({"max_tokens": 100_000}, 500),
        ({"max_tokens": None}, 500),
        ({"max_tokens": -1}, 500),
        ({"max_tokens": "20"}, 500),
    ],
)
def test_the_expected_output_is_a_typical_answer_or_the_requests_own_limit(
    limits: dict[str, Any], expected: int
) -> None:
    body = {"model": "auto", "messages": [user("hi")], **limits}
    assert chat_completions.read(orjson.dumps(body), {}).prompt.output_tokens == expected


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, "invalid_json"),
        (b"{", None, "invalid_json"),
        (b"[]", None, "invalid_json"),
        (b'"text"', None, "invalid_json"),
        (b'{"model": "\xff"}', None, "invalid_json"),
        (b"[" * 5000, None, "invalid_json"),
        (b'{"messages": [{}]}', "model", "invalid_value"),
        (b'{"model": 3, "messages": [{}]}', "model", "invalid_value"),
        (b'{"model": "", "messages": [{}]}', "model", "invalid_value"),
        (b'{"model": "auto"}', "messages", "invalid_value"),
        (b'{"model": "auto", "messages": []}', "messages", "invalid_value"),
        (b'{"model": "auto", "messages": {}}', "messages", "invalid_value"),
        (b'{"model": "auto", "messages": ["hi"]}', "messages", "invalid_value"),
        (b'{"model": "auto", "messages": [{}], "stream": "yes"}', "stream", "invalid_value"),
        (b'{"model": "auto", "messages": [{}], "stream": 1}', "stream", "invalid_value"),
        (b'{"model": "auto", "messages": [{}], "plugins": {}}', "plugins", "invalid_value"),
        (b'{"model": "auto", "messages": [{}], "models": "m"}', "models", "invalid_value"),
    ],
)
def test_what_cannot_be_read_is_named(body: bytes, param: str | None, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        chat_completions.read(body, {})
    assert (refused.value.param, refused.value.code) == (param, code)


def preferences(headers: dict[str, str] | None = None, plugin: Any = None, **body: Any) -> Preferences:
    plugins = {} if plugin is None else {"plugins": [{"id": "auto-router", **plugin}]}
    return read_preferences({"model": "auto", **plugins, **body}, headers or {})


def test_nothing_said_leaves_all_to_the_key() -> None:
    assert preferences() == Preferences()


@pytest.mark.parametrize("dial", ["0", "10", "2.5", "7"])
def test_the_header_sets_the_dial_and_goes_before_the_plugin(dial: str) -> None:
    assert preferences({"x-nearvote-dial": dial}, {"cost_quality_tradeoff": 4}) == Preferences(dial=float(dial))


@pytest.mark.parametrize("dial", ["-0.1", "10.1", "nan", "inf", "", "cheap", "7,5"])
def test_a_dial_header_out_of_range_is_refused(dial: str) -> None:
    with pytest.raises(BadRequest, match="x-nearvote-dial must be a number from 0 to 10") as refused:
        preferences({"x-nearvote-dial": dial})
    assert refused.value.param == "x-nearvote-dial"


@pytest.mark.parametrize("tier", ["low", "medium", "high", "xhigh", "max"])
def test_a_cost_tier_is_a_setting_of_the_dial(tier: str) -> None:
    dials = {"low": 9.0, "medium": 7.0, "high": 5.0, "xhigh": 3.0, "max": 1.0}
    assert preferences(plugin={"cost_tier": tier}) == Preferences(dial=dials[tier])


def test_a_floor_of_quality_is_read_from_plugin_and_header_and_the_header_goes_before() -> None:
    header = {"x-nearvote-min-quality": "0.85"}
    assert preferences(plugin={"min_quality": 0.9}) == Preferences(min_quality=0.9)
    assert preferences(header) == preferences(header, {"min_quality": 0.9}) == Preferences(min_quality=0.85)


def test_a_ceiling_of_cost_is_read_from_plugin_and_header_and_the_header_goes_before() -> None:
    header = {"x-nearvote-max-cost": "2e-4"}
    assert preferences(plugin={"max_cost": 0.001}) == Preferences(max_cost=0.001)
    assert preferences(header) == preferences(header, {"max_cost": 0.001}) == Preferences(max_cost=0.0002)


@pytest.mark.parametrize(
    ("headers", "plugin", "names", "param"),
    [
        (
            {},
            {"cost_quality_tradeoff": 7, "cost_tier": "low"},
            "plugins.cost_quality_tradeoff and plugins.cost_tier",
            "plugins.cost_tier",
        ),
        (
            {},
            {"min_quality": 0.9, "max_cost": 0.001},
            "plugins.min_quality and plugins.max_cost",
            "plugins.max_cost",
        ),
        (
            {"x-nearvote-dial": "7"},
            {"min_quality": 0.9},
            "x-nearvote-dial and plugins.min_quality",
            "plugins.min_quality",
        ),
        (
            {"x-nearvote-max-cost": "1"},
            {"cost_tier": "max"},
            "plugins.cost_tier and x-nearvote-max-cost",
            "x-nearvote-max-cost",
        ),
        (
            {"x-nearvote-dial": "0", "x-nearvote-min-quality": "0", "x-nearvote-max-cost": "0"},
            None,
            "x-nearvote-dial and x-nearvote-min-quality and x-nearvote-max-cost",
            "x-nearvote-min-quality",
        ),
    ],
)
def test_two_ways_to_set_the_dial_are_refused_by_name(
    headers: dict[str, str], plugin: Any, names: str, param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences(headers, plugin)
    assert refused.value.message == f"{names} each set the dial; a request may give one of them"
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("name", "value", "most"),
    [
        ("x-nearvote-min-quality", "1.01", "1"),
        ("x-nearvote-min-quality", "-0.1", "1"),
        ("x-nearvote-min-quality", "90%", "1"),
        ("x-nearvote-min-quality", "nan", "1"),
        ("x-nearvote-max-cost", "-1", "1000000"),
        ("x-nearvote-max-cost", "inf", "1000000"),
        ("x-nearvote-max-cost", "$1", "1000000"),
        ("x-nearvote-max-cost", "", "1000000"),
    ],
)
def test_a_floor_or_ceiling_that_is_no_number_within_its_range_is_refused(name: str, value: str, most: str) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences({name: value})
    assert (refused.value.message, refused.value.param) == (
        f"{name} must be a number from 0 to {most}, not {value!r}",
        name,
    )


def test_routing_is_switched_off_by_header_or_plugin() -> None:
    assert preferences({"x-nearvote-routing": "OFF"}) == Preferences(routing_off=True)
    assert preferences(plugin={"enabled": False}) == Preferences(routing_off=True)


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"x-nearvote-routing": "on"}, "x-nearvote-routing"),
        ({"x-nearvote-evidence": "some"}, "x-nearvote-evidence"),
        ({"x-nearvote-dail": "3"}, "x-nearvote-dail"),
        ({"x-nearvote-": "3"}, "x-nearvote-"),
    ],
)
def test_an_unknown_header_or_word_is_refused(headers: dict[str, str], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences(headers)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("plugin", "param"),
    [
        ({"cost_quality_tradeoff": 11}, "plugins.cost_quality_tradeoff"),
        ({"cost_quality_tradeoff": -1}, "plugins.cost_quality_tradeoff"),
        ({"cost_quality_tradeoff": "7"}, "plugins.cost_quality_tradeoff"),
        ({"cost_quality_tradeoff": True}, "plugins.cost_quality_tradeoff"),
        ({"cost_tier": "cheap"}, "plugins.cost_tier"),
        ({"cost_tier": 3}, "plugins.cost_tier"),
        ({"min_quality": 1.1}, "plugins.min_quality"),
        ({"min_quality": "0.9"}, "plugins.min_quality"),
        ({"max_cost": -0.1}, "plugins.max_cost"),
        ({"max_cost": 1_000_001}, "plugins.max_cost"),
        ({"enabled": "no"}, "plugins.enabled"),
        ({"allowed_models": "openai/*"}, "plugins.allowed_models"),
        ({"allowed_models": [3]}, "plugins.allowed_models.0"),
        ({"unknown": 1}, "plugins.unknown"),
    ],
)
def test_a_plugin_field_that_is_unknown_or_of_a_wrong_type_is_refused(plugin: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences(plugin=plugin)
    assert refused.value.param == param


@pytest.mark.parametrize("plugins", [{}, "auto-router", [1], [{"id": "auto-router"}, {"id": "auto-router"}]])
def test_plugins_that_are_no_list_of_different_objects_are_refused(plugins: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences(plugins=plugins)
    assert refused.value.param == "plugins"


@pytest.mark.parametrize("models", ["m", [], [1], {}, 0])
def test_models_that_are_no_list_of_names_are_refused(models: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        preferences(models=models)
    assert refused.value.param == "models"


def test_models_of_a_named_request_are_not_read() -> None:
    assert read_preferences({"model": "m", "models": 5}, {}) == Preferences()
