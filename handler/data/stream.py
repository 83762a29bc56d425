"""A stream on its way through: bytes as they come, evidence before the end, an error where it breaks off."""

import re
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from handler.data import evidence
from handler.data.forward import FAULTS, broken_off
from handler.errors import ApiError
from handler.flow import Usage

DONE = (b"data: [DONE]", b"data:[DONE]")
_DONE_LINE = re.compile(rb"(?<=\n)data: ?\[DONE\]")
_TAIL = 16 * 1024
"""Bytes of the end that are kept to read the usage from."""


class Passage:
    """One stream. Iterate `chunks` once; afterwards `usage` and `error` say how it went."""

    def __init__(self, answer: httpx.Response, model: str, last_words: bytes = b"") -> None:
        self._answer = answer
        self._model = model
        self._last_words = last_words
        """Sent before [DONE], or at the end of a stream that has none."""
        self._tail = b""
        self.error: ApiError | None = None

    @property
    def usage(self) -> Usage | None:
        for line in reversed(self._tail.split(b"\n")):
            found = evidence.usage_in(line.removeprefix(b"data:")) if line.startswith(b"data:") else None
            if found:
                return found
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._with_last_words() if self._last_words else self._raw():
                yield chunk
        except FAULTS as error:
            self.error = broken_off(error, self._model)
            yield b"\n\ndata: " + orjson.dumps(self.error.body()) + b"\n\n"

    async def close(self) -> None:
        await self._answer.aclose()

    async def _with_last_words(self) -> AsyncIterator[bytes]:
        chunks = self._raw()
        held, before = b"", b"\n"  # before: the last byte passed on, which tells where a line starts
        async for chunk in chunks:
            seen = before + held + chunk
            done = _DONE_LINE.search(seen)
            if done:
                yield seen[1 : done.start()] + self._last_words + seen[done.start() :]
                break
            held = _perhaps_done(seen)
            passed = seen[1 : len(seen) - len(held)]
            before = passed[-1:] or before
            yield passed
        else:
            yield held + b"\n\n" + self._last_words
        async for chunk in chunks:
            yield chunk

    async def _raw(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_raw():
            self._tail = (self._tail + chunk)[-_TAIL:]
            yield chunk


class PassageResponse(StreamingResponse):
    """Ends the upstream's answer whatever ends this one: its end, a fault, a client that leaves."""

    def __init__(self, passage: Passage, headers: dict[str, str], ended: Callable[[], None]) -> None:
        super().__init__(passage.chunks(), headers=headers)
        self._passage = passage
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._passage.close()
            self._ended()


def _perhaps_done(seen: bytes) -> bytes:
    """The unfinished last line, where it may yet turn out to be [DONE]: it waits for the next chunk."""
    start = seen.rfind(b"\n") + 1
    line = seen[start:]
    return line if start and any(done.startswith(line) for done in DONE) else b""
