"""`nearvote keys`: create, list, show, change, revoke."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from handler.keys import Routing
from scripts.admin import Admin, with_admin
from scripts.output import table

app = typer.Typer(help="API keys: create, list, change, revoke.", no_args_is_help=True)

PATH = "/admin/v1/keys"
COLUMNS = ("id", "name", "routing", "dial", "default_model", "allow", "exclude", "admin", "revoked", "created_at")

Id = Annotated[str, typer.Argument(help="The key's id: the part between the dashes of nv-<id>-<secret>.")]
RoutingOption = Annotated[Routing | None, typer.Option(help="Whether `auto` works: off, forecast or on.")]
DialOption = Annotated[float | None, typer.Option(min=0, max=10, help="0 = most capable … 10 = cheapest.")]
DefaultModel = Annotated[str | None, typer.Option(help='What answers when there is no vote; "" takes it away.')]
Allow = Annotated[list[str] | None, typer.Option(help="Glob of models `auto` may choose; repeat for more.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Glob of models `auto` may not choose; repeat for more.")]
ExpiresAt = Annotated[int | None, typer.Option(help="Seconds since the epoch; 0 takes it away.")]


@app.command()
@with_admin
def create(
    admin: Admin,
    name: Annotated[str, typer.Option(help="For people.")],
    is_admin: Annotated[bool, typer.Option("--admin", help="May use the control plane.")] = False,
    routing: RoutingOption = None,
    dial: DialOption = None,
    default_model: DefaultModel = None,
    allow: Allow = None,
    exclude: Exclude = None,
    expires_at: ExpiresAt = None,
) -> None:
    """Create a key. It is shown this once: only a keyed hash of it is stored."""
    options = _options(routing, dial, default_model, allow, exclude, expires_at)
    record = admin.post(PATH, {"name": name, "admin": is_admin, **options})
    admin.show(record, record["key"])


@app.command("list")
@with_admin
def list_keys(admin: Admin) -> None:
    """List all keys, without their secrets."""
    records = admin.get(PATH)["data"]
    admin.show(records, table(records, COLUMNS))


@app.command("show")
@with_admin
def show_key(admin: Admin, id: Id) -> None:
    """Show one key's record."""
    record = admin.get(_path(id))
    admin.show(record, table([record], COLUMNS))


@app.command()
@with_admin
def change(
    admin: Admin,
    id: Id,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    routing: RoutingOption = None,
    dial: DialOption = None,
    default_model: DefaultModel = None,
    allow: Allow = None,
    exclude: Exclude = None,
    expires_at: ExpiresAt = None,
) -> None:
    """Change what is given and leave the rest; live in every running process within 5 s."""
    options = _options(routing, dial, default_model, allow, exclude, expires_at)
    record = admin.patch(_path(id), options | ({"name": name} if name else {}))
    admin.show(record, table([record], COLUMNS))


@app.command()
@with_admin
def revoke(admin: Admin, id: Id) -> None:
    """Make a key stop working, for good."""
    record = admin.delete(_path(id))
    admin.show(record, table([record], COLUMNS))


def _path(id: str) -> str:
    return f"{PATH}/{quote(id, safe='')}"


def _options(
    routing: Routing | None,
    dial: float | None,
    default_model: str | None,
    allow: list[str] | None,
    exclude: list[str] | None,
    expires_at: int | None,
) -> dict[str, Any]:
    """Those that were given. An empty default model or glob takes away what was there."""
    given = {
        "routing": routing and routing.value,
        "dial": dial,
        "default_model": default_model,
        "allow": None if allow is None else [glob for glob in allow if glob],
        "exclude": None if exclude is None else [glob for glob in exclude if glob],
        "expires_at": expires_at,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    taken_away = {
        name: None for name, value in (("default_model", default_model), ("expires_at", expires_at)) if value in ("", 0)
    }
    return options | taken_away
