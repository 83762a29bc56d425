"""`nearvote index`: status, history, diff, rollback, rebuild, curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from handler.keys import KeyOptions
from scripts import curve_text
from scripts.admin import Admin, with_admin
from scripts.output import say, table

app = typer.Typer(help="The index and its versions.", no_args_is_help=True)

SPEND, QUALITY = (f"dial {KeyOptions().dial:g} {what}" for what in ("$/1,000", "quality"))
COLUMNS = ("number", "version", "created_at", "examples", SPEND, QUALITY, "message")

PICTURES = (".png", ".svg")

Version = Annotated[str, typer.Argument(help="A version's id, from `nearvote index history`.")]


@app.command()
@with_admin
def status(admin: Admin) -> None:
    """The current version."""
    current = admin.get("/admin/v1/index")
    admin.show(current, "\n".join(f"{name:<12}{value}" for name, value in current.items()))


@app.command()
@with_admin
def history(
    admin: Admin,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
) -> None:
    """Versions, newest first, and what each promised at the usual dial, for the fleet of its time."""
    versions = admin.get("/admin/v1/versions", limit=limit)["data"]
    admin.show(versions, table([version | _promised(version["promised"]) for version in versions], COLUMNS))


@app.command()
@with_admin
def diff(admin: Admin, old: Version, new: Version) -> None:
    """Which examples differ between two versions."""
    found = admin.get(f"/admin/v1/versions/{old}/diff/{new}")
    signs = (("+", found["added"]), ("-", found["removed"]), ("~", found["changed"]))
    admin.show(found, "\n".join(f"{sign} {id}" for sign, ids in signs for id in ids) or "no difference")


@app.command()
@with_admin
def rollback(admin: Admin, version: Version) -> None:
    """Serve an old version's contents again, as a new version."""
    _tell(admin, admin.post(f"/admin/v1/versions/{version}/rollback"))


@app.command()
@with_admin
def rebuild(admin: Admin) -> None:
    """Embed every example again, for an index that another embedder made."""
    version = admin.send_long("/admin/v1/index/rebuild", b"", "examples")
    _tell(admin, version)
    if version.get("left_out"):
        say(
            f"{version['left_out']} examples without text could not be embedded: they are left out; "
            f"version {version['parent']} still has them"
        )


def _picture(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"{path.name} ends in none of {', '.join(PICTURES)}")
    return path


@app.command()
@with_admin
def curve(
    admin: Admin,
    plot: Annotated[Path | None, typer.Option(callback=_picture, help="Draw it to FILE.png or FILE.svg.")] = None,
) -> None:
    """What each setting of the dial spends and gives, as measured on the index's own examples."""
    found = admin.get("/admin/v1/dial")
    admin.show(found, curve_text.describe(found))
    if plot is not None:
        _draw(found, plot)


def _draw(curve: Mapping[str, Any], path: Path) -> None:
    from scripts.curve_plot import draw  # matplotlib takes a second to import

    try:
        draw(curve, path)
    except OSError as error:
        say(f"error: {path} cannot be written: {error}")
        raise SystemExit(1) from error
    say(f"drawn to {path}")


def _promised(promise: Mapping[str, Any] | None) -> dict[str, str]:
    if promise is None:
        return {}
    quality = promise["quality"]
    return {SPEND: curve_text.dollars(promise["spend"]), QUALITY: "-" if quality is None else f"{quality:.3f}"}


def _tell(admin: Admin, version: dict[str, Any]) -> None:
    admin.show(version, f"version {version['number']} ({version['version']}), {version['examples']} examples")
