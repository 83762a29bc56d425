"""Which conversation a request belongs to, and whose turn it is. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from handler.errors import BadRequest
from handler.flow import Turn
from handler.wire.conversation import text_of

LONGEST_ID = 256
HEADERS = (
    "x-session-id",
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
    "x-session-affinity",
    "x-litellm-session-id",
)
"""In which clients name their session, the plainest first; Codex's are `session-id` and the three behind it."""
SCOPES = ("x-claude-code-agent-id", "thread-id")
"""By which agents tell the conversations of one session apart."""
AGENTS = ("x-claude-code-agent-id", "x-openai-subagent", "x-codex-parent-thread-id", "x-parent-session-id")
"""Which only an agent's calls on the side have."""
_ON_THE_SIDE = ("auxiliary", "subagent", "workflow", "side_reply")
_SIDE_CALL = "cc_is_subagent=true"
"""In the first of Claude Code's instructions."""
_OPENING = 4096
"""Characters of each part of the opening that tell one conversation from another."""


def session_of(body: Mapping[str, Any], headers: Mapping[str, str], opening: Sequence[Any]) -> str:
    """What tells the conversation from others; "" where there is nothing to tell by. `opening`: what stays as it is
    while the conversation goes on. It counts in a session that has a name too: under
    the same name agents ask for titles and summaries, which have nothing of the conversation's prefix. Raises
    BadRequest for what is no `session_id`."""
    named = _named(body, headers)
    scope = next((headers[name] for name in SCOPES if headers.get(name)), "")
    texts = [text_of(part)[:_OPENING] for part in opening]
    if not named and not any(texts):
        return ""
    told = "\0".join((named, scope, *texts)).encode("utf-8", "replace")
    return hashlib.blake2b(told, digest_size=12).hexdigest()


def turn_of(headers: Mapping[str, str], ends_in_tool_result: bool, instructions: Any = None) -> Turn:
    """`instructions`: the system prompt, where a protocol has it by itself."""
    aside = headers.get("x-claude-code-request-class") in _ON_THE_SIDE or any(headers.get(name) for name in AGENTS)
    if aside or _SIDE_CALL in text_of(instructions)[:_OPENING]:
        return Turn.SUBAGENT
    return Turn.TOOL_RESULT if ends_in_tool_result else Turn.USER


def _named(body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    given = body.get("session_id")
    if given is not None and (not isinstance(given, str) or not 0 < len(given) <= LONGEST_ID):
        raise BadRequest(f"`session_id` must be a text of at most {LONGEST_ID} characters", param="session_id")
    by_header = next((headers[name] for name in HEADERS if headers.get(name)), "")
    found = given or by_header or _of_user(body.get("metadata")) or body.get("prompt_cache_key")
    return found[:LONGEST_ID] if isinstance(found, str) else ""


def _of_user(metadata: Any) -> str:
    """Claude Code's `metadata.user_id` is JSON, and was `user_…_session_…`."""
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return ""
    try:
        told = orjson.loads(user)
    except orjson.JSONDecodeError:
        return user.partition("_session_")[2]
    session = told.get("session_id") if isinstance(told, dict) else None
    return session if isinstance(session, str) else ""
