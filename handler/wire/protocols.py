"""The protocols that callers may speak."""

from handler.flow import Protocol
from handler.wire import chat_completions, messages, responses
from handler.wire.wire import Wire

WIRES: dict[Protocol, Wire] = {wire.protocol: wire for wire in (chat_completions.WIRE, messages.WIRE, responses.WIRE)}
