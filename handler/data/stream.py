"""A stream on its way through: events as they come, evidence before the end, an error where it breaks off."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import httpx
import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from handler.data.forward import Reply, broken_off
from handler.data.transport import FAULTS
from handler.errors import ApiError
from handler.flow import Usage
from handler.wire.wire import Wire

_DONE_LINE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_TOLD = re.compile(rb'"usage" ?: ?\{|"message_start"')
"""In an event that may say how many tokens were used."""
_ID = re.compile(rb'"id" ?: ?"([^"]{1,200})"')
_BLANKS = (b"\n\n", b"\r\n\r\n")
_EVENT = re.compile(rb"(\r?\n\r?\n)")
LONGEST_EVENT = 4 * 1024 * 1024
"""Bytes of one that are kept until it is whole; a longer one is passed on in parts, unread."""


class Passage:
    """One stream. Iterate `chunks` once; afterwards `usage`, `error`, `fault` and `seconds` say how it went."""

    def __init__(self, reply: Reply, wire: Wire, last_words: bytes = b"", hides_usage: bool = False) -> None:
        """`last_words` are sent before [DONE], or at the end of a stream that has none. `hides_usage`: the chunk that
        has nothing but usage was not asked for by the caller, and stays here."""
        self._reply = reply
        self._wire = wire
        self._last_words = last_words
        self._hides_usage = hides_usage
        self._ended = False
        """Whether the end that its protocol asks for has come."""
        self._began = time.perf_counter()
        self.usage: Usage | None = None
        self.error: ApiError | None = None
        """What we told of a stream that broke off."""
        self.fault = ""
        """Of the upstream, where it told an error itself."""
        self.seconds = 0.0
        """From the first bytes to the last."""
        self.answer_id = ""
        """As the upstream numbers its answers."""

    async def chunks(self) -> AsyncIterator[bytes]:
        if "content-encoding" in self._reply.answer.headers:  # although nobody asked for it
            chunks, self._ended = self._read(), True
        else:
            chunks = self._whole_events()
            if self._hides_usage:
                chunks = _without_usage(chunks)
            if self._last_words:
                chunks = _with_last_words(chunks, self._last_words)
        try:
            async for chunk in chunks:
                yield chunk
        except FAULTS as error:
            if not self._ended:  # else the answer is whole, whatever became of the connection
                self.error = broken_off(error, self._reply.target.model.name)
                yield b"\n\n" + self._wire.error_event(self.error)

    @property
    def failed(self) -> bool:
        return self.error is not None or bool(self.fault)

    @property
    def whole(self) -> bool:
        """Neither failed nor left by the client before its end."""
        return self._ended and not self.failed

    async def close(self) -> None:
        await self._reply.answer.aclose()

    async def _whole_events(self) -> AsyncIterator[bytes]:
        """An event waits until it is whole: half of one would spoil the error that follows where the stream breaks
        off. Raises RemoteProtocolError for a stream that ends before its answer does."""
        held = b""
        async for chunk in self._read():
            whole, held = _cut(held + chunk)
            if whole:
                self._note(whole)
                yield whole
        self._note(held)
        if not self._ended:
            raise httpx.RemoteProtocolError("the stream ended before the answer")
        if held:
            yield held

    async def _read(self) -> AsyncIterator[bytes]:
        yield self._reply.body
        assert self._reply.rest is not None  # noqa: S101 - only streams come here
        async for chunk in self._reply.rest:
            self.seconds = time.perf_counter() - self._began
            yield chunk

    def _note(self, events: bytes) -> None:
        if not self.answer_id and (found := _ID.search(events)):
            self.answer_id = found[1].decode(errors="replace")
        if not self._ended and (end := self._wire.end.find(events)):
            self._ended = True
            self.fault = "error_event" if end["error"] else ""
        if _TOLD.search(events):
            for line in events.split(b"\n"):
                if _TOLD.search(line):
                    self._use(line)

    def _use(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
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
            try:
                await self._passage.close()
            finally:
                await self._ended()


def _cut(seen: bytes) -> tuple[bytes, bytes]:
    """Whole events, and the beginning of the next."""
    if seen.endswith(_BLANKS) or len(seen) > LONGEST_EVENT:
        return seen, b""
    end = max((at + len(blank) for blank in _BLANKS if (at := seen.rfind(blank)) >= 0), default=0)
    return seen[:end], seen[end:]


async def _with_last_words(chunks: AsyncIterator[bytes], last_words: bytes) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        done = _DONE_LINE.search(chunk)
        if done:
            yield chunk[: done.start()] + last_words + chunk[done.start() :]
            break
        yield chunk
    else:
        yield b"\n\n" + last_words
    async for chunk in chunks:
        yield chunk


async def _without_usage(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All but the chat event that has no choices and a usage."""
    async for chunk in chunks:
        passed = _spare(chunk) if _TOLD.search(chunk) else chunk
        if passed:
            yield passed


def _spare(chunk: bytes) -> bytes:
    pieces = [*_EVENT.split(chunk), b""]  # events and what separates them, in turn
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    return b"".join(event + blank for event, blank in pairs if not _only_usage(event))


def _only_usage(event: bytes) -> bool:
    if _TOLD.search(event) is None:
        return False
    try:
        chunk = orjson.loads(event.strip().removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and "usage" in chunk
