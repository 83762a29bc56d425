"""Which control plane a command speaks to: --url, --stack and --admin-key, before the command or behind it."""

import os
from dataclasses import dataclass, field
from typing import Annotated

import typer

Url = Annotated[
    str | None, typer.Option("--url", help="A server to speak to; default: NEARVOTE_URL, else the local state.")
]
StackName = Annotated[str | None, typer.Option("--stack", help="A deployed stack to speak to; goes before --url.")]
AdminKey = Annotated[
    str | None, typer.Option("--admin-key", help="An admin key of that server; default: NEARVOTE_ADMIN_KEY.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """As one source says it: the options behind a command, those before it, or the environment. None: not said."""

    url: str | None = None
    stack: str | None = None
    admin_key: str | None = field(default=None, repr=False)

    def over(self, other: "Place") -> "Place":
        """What this does not say, `other` does. A URL goes before another's stack, and a stack before its URL."""
        named = other if self.url is None and self.stack is None else self
        return Place(named.url, named.stack, other.admin_key if self.admin_key is None else self.admin_key)


NO_CONTROL_PLANE = frozenset({"--url", "--stack", "--admin-key"})
MEANINGLESS = {
    "run": NO_CONTROL_PLANE,
    "model": NO_CONTROL_PLANE,
    "evaluate": NO_CONTROL_PLANE,
    "bootstrap": frozenset({"--url", "--admin-key"}),
    "fleet check": NO_CONTROL_PLANE,
    "fleet import": NO_CONTROL_PLANE,
}
"""Options to commands that speak to no control plane."""


def refuse_meaningless(command: str, place: Place) -> None:
    """Of the options before a command, which is one or a group of them."""
    for option, value in (("--url", place.url), ("--stack", place.stack), ("--admin-key", place.admin_key)):
        if value is not None and option in MEANINGLESS.get(command, ()):
            raise typer.BadParameter(f"`nearvote {command}` does not take it", param_hint=option)


def place_in_environment() -> Place:
    return Place(os.environ.get("NEARVOTE_URL"), None, os.environ.get("NEARVOTE_ADMIN_KEY"))
