"""`nearvote index`: status, history, diff, rollback, rebuild."""

from typing import Annotated, Any

import typer

from scripts.admin import Admin, AdminKey, Url
from scripts.output import AsJson, show, table
from scripts.stack import StackName

app = typer.Typer(help="The index and its versions.", no_args_is_help=True)

COLUMNS = ("number", "version", "created_at", "examples", "message")

Version = Annotated[str, typer.Argument(help="A version's id, from `nearvote index history`.")]


@app.command()
def status(url: Url = "", stack: StackName = "", admin_key: AdminKey = "", as_json: AsJson = False) -> None:
    """The current version."""
    current = Admin(url, admin_key, as_json, stack).get("/admin/v1/index")
    show(current, as_json, "\n".join(f"{name:<12}{value}" for name, value in current.items()))


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """Versions, newest first."""
    versions = Admin(url, admin_key, as_json, stack).get("/admin/v1/versions", limit=limit)["data"]
    show(versions, as_json, table(versions, COLUMNS))


@app.command()
def diff(
    old: Version, new: Version, url: Url = "", stack: StackName = "", admin_key: AdminKey = "", as_json: AsJson = False
) -> None:
    """Which examples differ between two versions."""
    found = Admin(url, admin_key, as_json, stack).get(f"/admin/v1/versions/{old}/diff/{new}")
    signs = (("+", found["added"]), ("-", found["removed"]), ("~", found["changed"]))
    show(found, as_json, "\n".join(f"{sign} {id}" for sign, ids in signs for id in ids) or "no difference")


@app.command()
def rollback(
    version: Version, url: Url = "", stack: StackName = "", admin_key: AdminKey = "", as_json: AsJson = False
) -> None:
    """Serve an old version's contents again, as a new version."""
    _tell(Admin(url, admin_key, as_json, stack).post(f"/admin/v1/versions/{version}/rollback"), as_json)


@app.command()
def rebuild(url: Url = "", stack: StackName = "", admin_key: AdminKey = "", as_json: AsJson = False) -> None:
    """Embed every example again, for an index that another embedder made."""
    _tell(Admin(url, admin_key, as_json, stack).send_long("/admin/v1/index/rebuild", b"", "examples"), as_json)


def _tell(version: dict[str, Any], as_json: bool) -> None:
    show(version, as_json, f"version {version['number']} ({version['version']}), {version['examples']} examples")
