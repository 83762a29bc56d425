"""`nearvote bootstrap`: what a freshly deployed stack needs before it can route."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import orjson
import typer

from handler import fleet as fleets
from handler.control.embedding import LazyEmbedder
from handler.fleet import BadFleet, Fleet
from handler.keys import KeyStore, NewKey
from handler.secrets import Secret, SecretUnavailable, fetcher, secrets_client
from handler.services import Services, cores, open_services
from handler.settings import Settings, from_environment
from handler.table import TableError
from index.errors import NearvoteIndexError
from index.store import ObjectStore
from scripts import model_files
from scripts.embedding import embed_with_bar
from scripts.local_state import PROVIDERS, ensure_index, fleet_for
from scripts.output import AsJson, say, show, to_json
from scripts.stack import Stack, StackError, find_stack

FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", exists=True, dir_okay=False, help="Default: the models of the providers with a key."),
]


def bootstrap(
    ctx: typer.Context,
    stack: Annotated[str | None, typer.Option(help="The deployed stack's name. Required.")] = None,
    fleet: FleetFile = None,
    replace_fleet: Annotated[bool, typer.Option("--replace-fleet", help="Even if there is a fleet file.")] = False,
    no_starter: Annotated[bool, typer.Option("--no-starter", help="Leave the index empty.")] = False,
    with_provider_keys: Annotated[
        bool, typer.Option("--with-provider-keys", help="Copy keys the secret lacks from the environment into it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a deployed stack its fleet file, starter index and first admin key. What it has, it keeps."""
    stack = stack or ctx.obj.stack
    if not stack:
        raise typer.BadParameter("which stack?", param_hint="--stack")
    with _faults_told(as_json):
        found = find_stack(stack)
        services = open_services(_settings(found))
        used = ensure_fleet(services.store, fleet, replace_fleet, services.credentials)
        ensure_provider_keys(found.secret, used, os.environ if with_provider_keys else {})
        if not no_starter:
            ensure_starter(services)
        key = ensure_admin_key(services.keys)
    say(f"{stack} answers at {found.url}/v1")
    if key is not None:
        say(f"the first admin key, shown this once; as NEARVOTE_ADMIN_KEY it goes with `nearvote … --stack {stack}`:")
    if key is not None or as_json:
        show({"url": found.url, "admin_key": key}, as_json, key or "")


@contextlib.contextmanager
def _faults_told(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, StackError, SecretUnavailable, TableError, NearvoteIndexError, BadFleet) as error:
        if as_json:
            print(to_json({"error": {"message": str(error)}}))
        else:
            say(f"error: {error}")
        raise SystemExit(1) from error


def _settings(stack: Stack) -> Settings:
    return replace(
        from_environment(), store=f"s3://{stack.bucket}", table=f"dynamodb://{stack.table}", secret=stack.secret
    )


def ensure_fleet(store: ObjectStore, file: Path | None, anew: bool, credentials: Mapping[str, str]) -> Fleet:
    """The fleet that the store has afterwards. Raises BadFleet before anything is written."""
    stored = store.get(fleets.KEY)
    if stored is not None and not anew:
        kept = fleets.parse(stored.data).fleet
        say(f"kept {fleets.KEY}: {', '.join(kept.by_name)}{'; --replace-fleet replaces it' if file else ''}")
        return kept
    data = file.read_bytes() if file else _fleet_of_providers(credentials)
    fleet = fleets.parse(data).fleet
    store.swap(fleets.KEY, data, stored.etag if stored else None)
    say(f"uploaded {fleets.KEY}: {', '.join(fleet.by_name)}")
    return fleet


def _fleet_of_providers(credentials: Mapping[str, str]) -> bytes:
    if not any(credentials.get(variable) for variable in PROVIDERS):
        raise BadFleet(
            f"no fleet: give --fleet FILE, or have one of {', '.join(PROVIDERS)} in the secret or the environment"
        )
    return fleet_for(credentials)


def ensure_provider_keys(secret_id: str, fleet: Fleet, environ: Mapping[str, str]) -> None:
    """Put what the fleet refers to and the secret lacks from `environ` into the secret, and tell what it lacks then."""
    secret = dict(Secret(fetcher(secret_id), {}))
    lacking = [name for name in fleet.references if not secret.get(name)]
    found = {name: environ[name] for name in lacking if environ.get(name)}
    if found:
        _put_secret(secret_id, secret | found)
        say(f"put into the secret: {', '.join(found)}; a running function takes it within 5 minutes")
    for name in lacking:
        if name not in found:
            say(f"{fleets.KEY} refers to {name}, which the secret lacks: add it, or see --with-provider-keys")


def _put_secret(id: str, values: Mapping[str, str]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        secrets_client().put_secret_value(SecretId=id, SecretString=orjson.dumps(values).decode())
    except ClientError as error:
        raise SecretUnavailable(f"{id} cannot be written: {error.response['Error']['Code']}") from error
    except BotoCoreError as error:
        raise SecretUnavailable(f"{id} cannot be written: {error}") from error


def ensure_starter(services: Services) -> None:
    """The starter index, where there is no version yet."""
    current = services.repository.history(1)
    if there := next(current, None):
        say(f"kept the index: version {there[1].number} ({there[0]}), {there[1].examples} examples")
        return
    embedder = LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), cores(services.settings))
    ensure_index(services, lambda prompts: embed_with_bar(embedder, prompts), embedder.fingerprint, say)
    for id, version in services.repository.history(1):
        say(f"uploaded the index: version {version.number} ({id}), {version.examples} examples")


def ensure_admin_key(keys: KeyStore) -> str | None:
    """A first admin key; None where there is one that works."""
    for record in keys.list():
        if record.admin and record.works_at(time.time()):
            say(f"kept the admin key {record.id} ({record.name})")
            return None
    return keys.create(NewKey(name="first admin", admin=True))[1]
