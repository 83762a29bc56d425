"""An upstream that sends exactly the bytes that a test wrote down, and keeps what it was sent."""

import select
import socket
import socketserver
import threading
import time
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
    first: list[Sequence[Step]] = field(default_factory=list)
    """Played instead to the next requests, one each."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a caller has left before all was played."""
    received: list[Received] = field(default_factory=list)


@contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            headers = dict(self._headers())
            upstream.received.append(Received(headers, self.rfile.read(int(headers.get("content-length", 0)))))
            steps = upstream.first.pop(0) if upstream.first else upstream.steps
            if not _played(steps, self.connection):
                upstream.left.set()

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


def _played(steps: Sequence[Step], connection: socket.socket) -> bool:
    """False when the caller has left before the end."""
    for step in steps:
        if not isinstance(step, threading.Event):
            connection.sendall(step)
        elif not _waited(step, connection):
            return False
    return True


def _waited(event: threading.Event, connection: socket.socket) -> bool:
    """False as soon as the caller has left."""
    deadline = time.monotonic() + WAIT_S
    while not event.wait(0.01) and time.monotonic() < deadline:
        readable, _, _ = select.select([connection], [], [], 0)
        if readable and not connection.recv(1):
            return False
    return True
