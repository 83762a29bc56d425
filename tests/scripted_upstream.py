"""An upstream that sends exactly the bytes that a test wrote down, and keeps what it was sent."""

import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Step: TypeAlias = bytes | threading.Event
"""Bytes to send, or something to wait for first."""
WAIT_S = 10.0

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    """A whole JSON answer; `length` may lie."""
    stated = b"content-length: %d" % (len(body) if length is None else length)
    lines = [b"HTTP/1.1 " + status, b"content-type: application/json", b"connection: close", stated, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Received:
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes


@dataclass(slots=True)
class ScriptedUpstream:
    url: str = ""
    steps: Sequence[Step] = ()
    """Played to each request that comes; then the connection is closed."""
    received: list[Received] = field(default_factory=list)


@contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            headers = dict(self._headers())
            upstream.received.append(Received(headers, self.rfile.read(int(headers.get("content-length", 0)))))
            for step in upstream.steps:
                if isinstance(step, threading.Event):
                    step.wait(WAIT_S)
                else:
                    self.wfile.write(step)

        def _headers(self) -> Iterator[tuple[str, str]]:
            self.rfile.readline()
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                yield name.lower(), value.strip()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that left is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        upstream.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield upstream
        server.shutdown()
        thread.join()
