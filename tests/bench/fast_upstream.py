"""A very fast upstream for load tests: canned answers, and no more HTTP/1.1 than they need.

`python -m tests.bench.fast_upstream --port 0` prints its URL. It knows Content-Length bodies and keep-alive,
one request at a time on a connection. A body that contains `"stream":true` gets 20 SSE chunks and [DONE].
"""

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from typing import cast

MAX_REQUEST_BYTES = 16 * 1024 * 1024
STREAMED_CHUNKS = 20

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
STREAMED = re.compile(rb'"stream":\s*true')

COMMON = {"id": "chatcmpl-canned", "created": 0, "model": "canned", "system_fingerprint": "canned"}
USAGE = {"prompt_tokens": 10, "completion_tokens": STREAMED_CHUNKS, "total_tokens": 10 + STREAMED_CHUNKS}


def _json_answer() -> bytes:
    message = {"role": "assistant", "content": "word " * STREAMED_CHUNKS}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**COMMON, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _http_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _stream_answer() -> tuple[bytes, ...]:
    """The head, each event as one HTTP chunk, and the end of the body with [DONE]."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    events = []
    for position in range(STREAMED_CHUNKS):
        finish = "stop" if position == STREAMED_CHUNKS - 1 else None
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": finish}
        chunk = json.dumps({**COMMON, "object": "chat.completion.chunk", "choices": [choice]})
        events.append(_http_chunk(f"data: {chunk}\n\n".encode()))
    return (head, *events, _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


JSON_ANSWER = _json_answer()
STREAM_ANSWER = _stream_answer()
STREAM_AT_ONCE = (b"".join(STREAM_ANSWER),)


class Upstream(asyncio.Protocol):
    """One connection; `stream` is written one part a turn of the event loop."""

    def __init__(self, stream: Sequence[bytes]) -> None:
        self.stream = stream
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > MAX_REQUEST_BYTES:
            self.transport.close()
            return
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = CONTENT_LENGTH.search(self.received, 0, head_end)
        if len(self.received) >= head_end + 4 + (int(length[1]) if length else 0):
            self._answer(head_end)

    def _answer(self, head_end: int) -> None:
        streamed = STREAMED.search(self.received, head_end)
        self.received.clear()
        if streamed:
            self._write_from(0)
        else:
            self.transport.write(JSON_ANSWER)

    def _write_from(self, position: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(self.stream[position])
        if position + 1 < len(self.stream):
            asyncio.get_running_loop().call_soon(self._write_from, position + 1)


async def serve(port: int, one_by_one: bool) -> None:
    stream = STREAM_ANSWER if one_by_one else STREAM_AT_ONCE
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(stream), "127.0.0.1", port)
    bound = server.sockets[0].getsockname()[1]
    print(f"fast upstream on http://127.0.0.1:{bound}/v1", flush=True)  # noqa: T201
    await server.serve_forever()


def _event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="fast_upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--one-by-one", action="store_true", help="write each chunk of a stream by itself")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        runner.run(serve(options.port, options.one_by_one))


if __name__ == "__main__":
    main()
