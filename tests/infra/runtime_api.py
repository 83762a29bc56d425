"""Lambda's Runtime API on loopback: hands out events, and keeps what a function answers and when each chunk came."""

import enum
import json
import queue
import select
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

WAIT_S = 30.0
LOOK_S = 0.05
FUNCTION_S = 900.0
BOUNDARY = bytes(8)
"""Between the prelude and the body of a streamed answer."""
ACCEPTED = b'{"status":"OK"}'
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:nearvote-data"
TRACE = "Root=1-6923a1f0-1c2d3e4f5a6b7c8d9e0f1a2b;Sampled=0"


class Reader(enum.Enum):
    """What becomes of an answer once its body has begun."""

    STAYS = enum.auto()
    TURNS_AWAY = enum.auto()
    """It is accepted as it is, and the connection is closed."""
    HANGS_UP = enum.auto()
    """The connection is closed without a word."""


@dataclass(frozen=True, slots=True)
class Chunk:
    at: float
    """time.monotonic()"""
    data: bytes


@dataclass(slots=True)
class Answer:
    """What the function sends for one event, as far as it has come."""

    event: Json
    reader: Reader
    asked: float = 0.0
    """When the function took the event: time.monotonic()."""
    kind: str = ""
    """`response` or `error`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    head: bytes = b""
    """What came before the boundary; all of it where there is none."""
    body: list[Chunk] = field(default_factory=list)
    trailers: Mapping[str, str] = field(default_factory=dict)
    _parted: bool = False
    _over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def prelude(self) -> Json:
        prelude: Json = json.loads(self.head)
        return prelude

    @property
    def text(self) -> str:
        return b"".join(chunk.data for chunk in self.body).decode()

    def whole(self) -> "Answer":
        """This, once nothing more comes."""
        self._wait(lambda: self._over)
        return self

    def await_chunk(self, number: int) -> Chunk:
        """Counted from 0."""
        self._wait(lambda: len(self.body) > number)
        return self.body[number]

    def add(self, chunk: Chunk) -> None:
        with self._changed:
            if self._parted:
                self.body.append(chunk)
            else:
                self.head, boundary, rest = (self.head + chunk.data).partition(BOUNDARY)
                self._parted = bool(boundary)
                self.body += [Chunk(chunk.at, rest)] if rest else []
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            came = self._changed.wait_for(condition, WAIT_S)
        assert came, f"within {WAIT_S:.0f} s there was only {self.head!r} and {self.text!r}"


class RuntimeApi:
    def __init__(self) -> None:
        self.address = ""
        """For AWS_LAMBDA_RUNTIME_API."""
        self.extensions: list[str] = []
        """The names under which extensions registered."""
        self.init_errors: list[bytes] = []
        self.ready = threading.Event()
        """Set while the function waits for an event."""
        self.closing = threading.Event()
        self.waiting: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.taken: dict[str, Answer] = {}

    def invoke(self, event: Json, reader: Reader = Reader.STAYS) -> Answer:
        """Puts the event where the function asks for it; its answer is filled as it comes."""
        answer = Answer(event, reader)
        self.waiting.put(answer)
        return answer


@contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        api.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,), daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an event that waits for an acknowledgement would look like a slow function
    api: RuntimeApi
    _trailers: Mapping[str, str]

    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["2018-06-01", "runtime", "invocation", "next"]:
                self._next()
            case ["2020-01-01", "extension", "event", "next"]:
                self._idle_until(self.api.closing.is_set)  # the adapter registers for no events
                self.close_connection = True
            case _:
                self._reply(404)

    def do_POST(self) -> None:
        match self.path.strip("/").split("/"):
            case ["2018-06-01", "runtime", "invocation", id, ("response" | "error") as kind]:
                self._take(self.api.taken[id], kind)
            case ["2018-06-01", "runtime", "init", "error"]:
                self.api.init_errors.append(b"".join(self._body()))
                self._reply(202, ACCEPTED)
            case ["2020-01-01", "extension", "register"]:
                list(self._body())
                self.api.extensions.append(self.headers["Lambda-Extension-Name"])
                self._reply(200, b"{}", {"Lambda-Extension-Identifier": str(uuid.uuid4())})
            case _:
                self._reply(404)

    def _next(self) -> None:
        self.api.ready.set()
        self._idle_until(lambda: not self.api.waiting.empty())
        self.api.ready.clear()
        if self.close_connection:
            return
        id, answer = str(uuid.uuid4()), self.api.waiting.get()
        self.api.taken[id] = answer
        answer.asked = time.monotonic()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + FUNCTION_S) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": TRACE,
        }
        self._reply(200, json.dumps(answer.event).encode(), headers)

    def _take(self, answer: Answer, kind: str) -> None:
        answer.kind = kind
        answer.headers = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
        for data in self._body():
            answer.add(Chunk(time.monotonic(), data))
            if answer.body and answer.reader is not Reader.STAYS:
                self.close_connection = True
                break
        else:
            answer.trailers = self._trailers
        if answer.reader is not Reader.HANGS_UP:
            self._reply(202, ACCEPTED)
        answer.end()

    def _body(self) -> Iterator[bytes]:
        """The request's chunks as they come, then the trailers; a body of stated length is one chunk."""
        self._trailers = {}
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        lines = iter(lambda: self.rfile.readline().decode().strip(), "")
        self._trailers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _idle_until(self, condition: Callable[[], bool]) -> None:
        """Or until the one who asked has gone, who must not be handed anything."""
        while not condition():
            gone, _, _ = select.select([self.connection], [], [], LOOK_S)
            if gone or self.api.closing.is_set():
                self.close_connection = True
                return

    def log_message(self, *_: object) -> None:
        """Not to stderr."""
