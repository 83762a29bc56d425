"""`nearvote keys`: create, list, show, change, revoke, spending."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from handler.control.spending import DAYS
from scripts.admin import Admin, with_admin
from scripts.key_options import KeyOptions, with_key_options
from scripts.output import table

app = typer.Typer(help="API keys: create, list, change, revoke, and what they spent.", no_args_is_help=True)

PATH = "/admin/v1/keys"
COLUMNS = ("id", "name", "routing", "dial", "default_model", "allow", "exclude", "admin", "revoked", "created_at")
SPENDING = ("period", "spent", "saved", "requests", "tokens", "budget")

Id = Annotated[str, typer.Argument(help="The key's id: the part between the dashes of nv-<id>-<secret>.")]


@app.command()
@with_admin
@with_key_options
def create(
    admin: Admin,
    options: KeyOptions,
    name: Annotated[str, typer.Option(help="For people.")],
    is_admin: Annotated[bool, typer.Option("--admin", help="May use the control plane.")] = False,
) -> None:
    """Create a key. It is shown this once: only a keyed hash of it is stored."""
    record = admin.post(PATH, {"name": name, "admin": is_admin, **options.given()})
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
@with_key_options
def change(
    admin: Admin,
    options: KeyOptions,
    id: Id,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Change what is given and leave the rest; live in every running process within 5 s."""
    record = admin.patch(_path(id), options.given() | ({"name": name} if name else {}))
    admin.show(record, table([record], COLUMNS))


@app.command()
@with_admin
def revoke(admin: Admin, id: Id) -> None:
    """Make a key stop working, for good."""
    record = admin.delete(_path(id))
    admin.show(record, table([record], COLUMNS))


@app.command()
@with_admin
def spending(
    admin: Admin,
    id: Id,
    days: Annotated[int, typer.Option(min=1, help="The last so many.")] = DAYS,
) -> None:
    """Show what a key spent and saved in dollars, a line a day, and what it may spend."""
    told = admin.get(f"{_path(id)}/spending", days=days)
    budgets = told["budgets"]
    rows = [
        *(_spent(day["date"], day, budgets["day"]) for day in told["days"]),
        _spent("this month", told["month"], budgets["month"]),
        _spent("in all", told["total"], budgets["total"]),
    ]
    admin.show(told, table(rows, SPENDING))


def _spent(period: str, sums: Mapping[str, Any], budget: float | None) -> dict[str, Any]:
    dollars = {name: f"{sums[name]:.6f}" for name in ("spent", "saved")}
    return {"period": period, **sums, **dollars, "budget": budget}


def _path(id: str) -> str:
    return f"{PATH}/{quote(id, safe='')}"
