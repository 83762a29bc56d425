"""A stream on its way through: bytes as they come, evidence before the end, an error where it breaks off."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from handler.data.forward import FAULTS, Reply, broken_off
from handler.errors import ApiError
from handler.flow import Usage
from handler.wire.wire import Wire

DONE = (b"data: [DONE]", b"data:[DONE]")
_DONE_LINE = re.compile(rb"(?<=\n)data: ?\[DONE\]")
_TOLD = re.compile(rb'"usage" ?: ?\{|"message_start"')
"""In a line that may say how many tokens were used."""
_ID = re.compile(rb'"id" ?: ?"([^"]{1,200})"')
_EVENT = re.compile(rb"(\r?\n\r?\n)")
LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of one that are kept to read the usage from; a longer one is passed on unread."""


class Passage:
    """One stream. Iterate `chunks` once; afterwards `usage`, `error` and `seconds` say how it went."""

    def __init__(self, reply: Reply, wire: Wire, last_words: bytes = b"", hides_usage: bool = False) -> None:
        """`last_words` are sent before [DONE], or at the end of a stream that has none. `hides_usage`: the chunk that
        has nothing but usage was not asked for by the caller, and stays here."""
        self._reply = reply
        self._wire = wire
        self._last_words = last_words
        self._hides_usage = hides_usage
        self._line = b""
        self._began = time.perf_counter()
        self.usage: Usage | None = None
        self.error: ApiError | None = None
        self.seconds = 0.0
        """From the first bytes to the last."""

    @property
    def answer_id(self) -> str:
        """As the upstream numbers its answers."""
        found = _ID.search(self._reply.body)
        return "" if found is None else found[1].decode(errors="replace")

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = self._read()
        if self._hides_usage:
            chunks = _without_usage(chunks)
        try:
            async for chunk in _with_last_words(chunks, self._last_words) if self._last_words else chunks:
                yield chunk
        except FAULTS as error:
            self.error = broken_off(error, self._reply.target.model.name)
            yield b"\n\n" + self._wire.error_event(self.error)

    async def close(self) -> None:
        await self._reply.answer.aclose()

    async def _read(self) -> AsyncIterator[bytes]:
        self._note(self._reply.body)
        yield self._reply.body
        assert self._reply.rest is not None  # noqa: S101 - only streams come here
        async for chunk in self._reply.rest:
            self._note(chunk)
            yield chunk

    def _note(self, chunk: bytes) -> None:
        self.seconds = time.perf_counter() - self._began
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = self._line + lines[0]
            self._line = b""
            for line in lines:
                if _TOLD.search(line) is not None:
                    self._use(line)
        self._line = (self._line + rest)[: LONGEST_LINE + 1]

    def _use(self, line: bytes) -> None:
        if not line.startswith(b"data:") or len(line) > LONGEST_LINE:
            return
        try:
            event = orjson.loads(line.removeprefix(b"data:"))
        except orjson.JSONDecodeError:
            return
        if isinstance(event, dict):
            self.usage = self._wire.usage(event, self.usage)


class PassageResponse(StreamingResponse):
    """Ends the upstream's answer whatever ends this one: its end, a fault, a client that leaves. `ended` runs before
    the last byte leaves, as a function may be put to sleep after it."""

    def __init__(self, passage: Passage, headers: dict[str, str], ended: Callable[[], Awaitable[None]]) -> None:
        self._passage = passage
        self._ended = ended
        self._over = False
        super().__init__(self._chunks(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._passage.chunks():
            yield chunk
        await self._end()

    async def _end(self) -> None:
        if not self._over:
            self._over = True
            await self._passage.close()
            await self._ended()


async def _with_last_words(chunks: AsyncIterator[bytes], last_words: bytes) -> AsyncIterator[bytes]:
    held, before = b"", b"\n"  # before: the last byte passed on, which tells where a line starts
    async for chunk in chunks:
        seen = before + held + chunk
        done = _DONE_LINE.search(seen)
        if done:
            yield seen[1 : done.start()] + last_words + seen[done.start() :]
            break
        held = _perhaps_done(seen)
        passed = seen[1 : len(seen) - len(held)]
        before = passed[-1:] or before
        yield passed
    else:
        yield held + b"\n\n" + last_words
    async for chunk in chunks:
        yield chunk


async def _without_usage(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All but the chat event that has no choices and a usage; an event waits until it is whole."""
    held = b""
    async for chunk in chunks:
        *events, held = _EVENT.split(held + chunk)
        passed = b"".join(
            event + blank for event, blank in zip(events[::2], events[1::2], strict=True) if not _only_usage(event)
        )
        if len(held) > LONGEST_LINE:
            passed, held = passed + held, b""
        if passed:
            yield passed
    if held:
        yield held


def _only_usage(event: bytes) -> bool:
    if _TOLD.search(event) is None:
        return False
    try:
        chunk = orjson.loads(event.strip().removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and "usage" in chunk


def _perhaps_done(seen: bytes) -> bytes:
    """The unfinished last line, where it may yet turn out to be [DONE]: it waits for the next chunk."""
    start = seen.rfind(b"\n") + 1
    line = seen[start:]
    return line if start and any(done.startswith(line) for done in DONE) else b""
