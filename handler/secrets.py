"""The pepper and the providers' keys, out of one secret of AWS Secrets Manager: a JSON object of strings."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

log = logging.getLogger("nearvote.secrets")

TTL_S = 300.0
RETRY_S = 30.0
"""After a renewal that failed. Longer than one may take, so that there is one at a time."""
PEPPER = "pepper"

Fetch = Callable[[], str]
"""The secret's text, now. Blocking; raises SecretUnavailable."""


class SecretUnavailable(Exception):
    """The secret cannot be had, or is not what it should be. The text quotes nothing of it."""


class Secret(Mapping[str, str]):
    """What `${NAME}` in the fleet file stands for: the secret's value, else that of the environment.

    Never blocks. A look that finds the values older than `ttl` seconds has them renewed in the background and
    gets the old ones, which stay for as long as Secrets Manager fails."""

    def __init__(
        self,
        fetch: Fetch,
        environ: Mapping[str, str] = os.environ,
        ttl: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Blocking, this once. Raises SecretUnavailable."""
        self._fetch = fetch
        self._environ = environ
        self._ttl = ttl
        self._clock = clock
        self._values = _parse(fetch())
        self._due = clock() + ttl

    @property
    def pepper(self) -> bytes:
        """Raises SecretUnavailable where the secret has none."""
        pepper = self._values.get(PEPPER)
        if not pepper:
            raise SecretUnavailable(f"the secret has no `{PEPPER}`, which API keys are hashed with")
        return pepper.encode()

    def renew(self) -> None:
        """Blocking. What cannot be fetched or read leaves the values as they are, and says so in the log."""
        try:
            self._values = _parse(self._fetch())
        except SecretUnavailable as error:
            log.error("kept the secret as it was: %s", error)
        else:
            self._due = self._clock() + self._ttl

    def __getitem__(self, name: str) -> str:
        values = self._values  # first: a renewal may be done at once
        self._renew_when_due()
        return values[name] if name in values else self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._environ, **self._values})

    def __len__(self) -> int:
        return len({**self._environ, **self._values})

    def _renew_when_due(self) -> None:
        now = self._clock()
        if now >= self._due:
            self._due = now + RETRY_S
            threading.Thread(target=self.renew, name="secret", daemon=True).start()


def open_secret(id: str) -> Secret:
    """The secret of that ARN or name. Raises SecretUnavailable."""
    return Secret(fetcher(id))


def fetcher(id: str) -> Fetch:
    """A call ends within about 15 s: two attempts of at most 2 + 5 s. Raises SecretUnavailable."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = secrets_client()

    def fetch() -> str:
        try:
            answer = client.get_secret_value(SecretId=id)
        except ClientError as error:
            raise SecretUnavailable(f"{id}: {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise SecretUnavailable(f"{id}: {error}") from error
        return str(answer.get("SecretString", ""))

    return fetch


def secrets_client() -> Any:
    """Raises SecretUnavailable. boto3 is slow to import and not needed without a secret."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
    try:
        return boto3.client("secretsmanager", config=config)
    except (BotoCoreError, ValueError) as error:
        raise SecretUnavailable(f"cannot set up Secrets Manager: {error}") from error


def _parse(text: str) -> dict[str, str]:
    # `from None`: what a parser says of a text may quote it.
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise SecretUnavailable("the secret is not JSON") from None
    if not isinstance(values, dict):
        raise SecretUnavailable("the secret is not a JSON object")
    strange = [name for name, value in values.items() if not isinstance(value, str)]
    if strange:
        raise SecretUnavailable(f"the secret's values must be strings; {strange[0]!r} is none")
    return values
