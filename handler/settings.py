"""The only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "NEARVOTE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are and how much is allowed. Each field is NEARVOTE_ and its name in capitals."""

    home: str = ".nearvote"
    """Directory of the local state."""
    store: str = ""
    """Index and fleet file: s3://bucket/prefix, or a directory; default: home."""
    table: str = ""
    """Keys: dynamodb://table, or a SQLite file; default: state.db in home."""
    model_dir: str = ""
    """The embedding model's files; default: fetched into the user's cache."""
    pepper: str = field(default="", repr=False)
    """What keys are hashed with; default: the file `pepper` in home."""
    secret: str = ""
    """ARN or name of a secret in AWS Secrets Manager: a JSON object with `pepper` and providers' keys, which go
    before those of the environment."""
    url: str = ""
    """A server whose control plane the operator's commands speak to; default: the local state itself."""
    admin_key: str = field(default="", repr=False)
    """For `url`."""
    port: int = 8080
    poll_seconds: float = 2.0
    """How often a running process looks for a new index version or fleet."""
    embed_workers: int = 0
    """Threads that embed; 0: one a core."""
    waiting_decisions: int = 256
    """Prompts that may wait for the embedder; past them, the default model answers with cause `busy`."""
    body_bytes: int = 32 * 1024 * 1024
    """The largest request to the data plane; Anthropic takes as much."""
    connect_seconds: float = 5.0
    upstream_seconds: float = 600.0
    """How long an upstream may be silent."""
    first_byte_seconds: float = 120.0
    """How long a stream may take to begin, while there is another model or deployment to ask."""
    deadline_seconds: float = 600.0
    """For one request, all its attempts together, until its answer is there or its stream has begun."""
    rounds: int = 2
    """How often each deployment that may answer is asked at most."""

    @property
    def store_url(self) -> str:
        return self.store or self.home

    @property
    def table_url(self) -> str:
        return self.table or str(Path(self.home) / "state.db")


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises ValueError, naming the variable, for one that is unknown or does not read as its type."""
    values: dict[str, object] = {}
    known = Settings.__annotations__
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in known:
            raise ValueError(f"{variable} is no setting of nearvote; there are: {', '.join(_variables())}")
        values[name] = _read(variable, text, known[name])
    return Settings(**values)  # type: ignore[arg-type]


def _read(variable: str, text: str, kind: type) -> object:
    if kind is str:
        return text
    try:
        number = kind(text)
    except ValueError as error:
        raise ValueError(f"{variable}={text!r} is not of type {kind.__name__}") from error
    if not 0 <= number < float("inf"):
        raise ValueError(f"{variable}={text!r} must be a number from 0 up")
    return number


def _variables() -> list[str]:
    return [PREFIX + name.upper() for name in Settings.__annotations__]
