"""One model at two reasoning efforts is two choices: each calls the same model with its own."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from handler.data.forward import Forwarder
from handler.data.health import Target
from handler.fleet import Deployment, Model, Price
from handler.flow import Protocol
from handler.wire.protocols import WIRES
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream

CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[Protocol, dict[str, Any]] = {
    Protocol.CHAT: CHAT,
    Protocol.MESSAGES: {**CHAT, "max_tokens": 10},
    Protocol.RESPONSES: {"model": "auto", "input": "hi"},
}


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as scripted:
        scripted.steps = [answer(b'{"ok": true}')]
        yield scripted


async def sent(upstream: ScriptedUpstream, protocol: Protocol, body: dict[str, Any], effort: str | None) -> Any:
    """The body that the upstream gets of a request to a model with that effort."""
    deployment = Deployment(base_url=upstream.url, model="thinker", protocols=tuple(Protocol))
    model = Model(name="thinker:deep", price=Price(input=1, output=1), deployments=(deployment,), effort=effort)
    wire = WIRES[protocol]
    forwarder = Forwarder(1.0, 5.0, {})
    await forwarder.call(Target(model, deployment), wire.read(orjson.dumps(body), {}), wire, 5.0)
    await forwarder.close()
    return orjson.loads(upstream.received[-1].body)


@pytest.mark.parametrize(
    ("protocol", "field"),
    [
        (Protocol.CHAT, {"reasoning_effort": "high"}),
        (Protocol.MESSAGES, {"output_config": {"effort": "high"}}),
        (Protocol.RESPONSES, {"reasoning": {"effort": "high"}}),
    ],
)
async def test_a_model_is_called_with_its_effort(
    upstream: ScriptedUpstream, protocol: Protocol, field: dict[str, Any]
) -> None:
    body = BODIES[protocol]
    assert await sent(upstream, protocol, body, "high") == {**body, "model": "thinker", **field}
    assert await sent(upstream, protocol, body, None) == {**body, "model": "thinker"}


@pytest.mark.parametrize(
    ("protocol", "field"),
    [
        (Protocol.CHAT, {"reasoning_effort": "low"}),
        (Protocol.MESSAGES, {"output_config": {"effort": "low", "format": {"type": "json_schema"}}}),
        (Protocol.RESPONSES, {"reasoning": {"effort": "low", "summary": "auto"}}),
    ],
)
async def test_an_effort_of_the_request_s_own_stays(
    upstream: ScriptedUpstream, protocol: Protocol, field: dict[str, Any]
) -> None:
    body = {**BODIES[protocol], **field}
    assert await sent(upstream, protocol, body, "high") == {**body, "model": "thinker"}


@pytest.mark.parametrize(
    ("protocol", "field"),
    [
        (Protocol.MESSAGES, {"output_config": {"format": {"type": "json_schema"}}}),
        (Protocol.RESPONSES, {"reasoning": {"summary": "auto"}}),
    ],
)
async def test_an_effort_stands_beside_what_else_the_request_says_there(
    upstream: ScriptedUpstream, protocol: Protocol, field: dict[str, Any]
) -> None:
    ((name, given),) = field.items()
    got = await sent(upstream, protocol, {**BODIES[protocol], **field}, "high")
    assert got[name] == {"effort": "high", **given}
