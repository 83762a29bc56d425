"""`nearvote fleet`: show, put, check, import."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from handler import fleet as fleets
from handler.fleet import BadFleet
from index.types import Fault
from scripts import litellm_config
from scripts.admin import Admin, with_admin
from scripts.output import AsJson, say, show, table, to_json
from scripts.place import refuse_meaningless

app = typer.Typer(help="The fleet: models, what they cost and can do, and where they are served.", no_args_is_help=True)

PATH = "/admin/v1/fleet"
COLUMNS = ("model", "like", "input", "output", "cached", "context", "can", "protocols", "price from")
ABILITIES = ("images", "audio", "files", "tools", "schema")

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A fleet file.")]


@app.callback()
def fleet(ctx: typer.Context) -> None:
    refuse_meaningless(f"fleet {ctx.invoked_subcommand}", ctx.obj)


@app.command("show")
@with_admin
def show_fleet(
    admin: Admin,
    text: Annotated[bool, typer.Option("--text", help="The file itself, to change it and put it back.")] = False,
) -> None:
    """The models, in dollars per million tokens. `?` behind what a model may or may not be able to do."""
    if text:
        stored = admin.get(f"{PATH}/text")
        admin.show(stored, stored["text"].rstrip("\n"))
        return
    found = admin.get(PATH)
    admin.show(found, table([_row(model, found["catalogue_date"]) for model in found["models"]], COLUMNS))


@app.command()
@with_admin
def put(
    admin: Admin,
    file: File,
    expected: Annotated[
        str | None, typer.Option(help="Only in place of this version, from `nearvote fleet show --json`.")
    ] = None,
) -> None:
    """Put a fleet file in the place of the one that is there; a running server takes it within 5 s."""
    found = admin.put(PATH, file.read_bytes(), expected=expected)
    names = ", ".join(model["name"] for model in found["models"])
    admin.show(found, f"version {found['version']} in place of {found['replaced'] or 'none'}: {names}")


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Read a fleet file as a server would, and list what is wrong with it."""
    try:
        fleet = fleets.parse(file.read_bytes()).fleet
    except BadFleet as error:
        raise _refused(f"{file} cannot be used", error.faults or [Fault(1, str(error))], as_json) from error
    show({"models": list(fleet.by_name)}, as_json, f"{file}: {', '.join(fleet.by_name)}")


@app.command("import")
def import_fleet(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="LiteLLM's config.yaml.")],
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write it there; default: to stdout.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Even if there is such a file.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Take what can be taken and list the rest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a fleet file of a LiteLLM proxy's configuration."""
    if out is not None and out.exists() and not replace:
        raise _refused(f"there is {out} already; --replace replaces it", [], as_json)
    found = litellm_config.read(file.read_bytes())
    if found.faults and not skip_bad:
        raise _refused(f"nothing was written: {file} has what cannot be taken (--skip-bad)", found.faults, as_json)
    if not found.models:
        raise _refused(f"nothing was written: {file} has no model that can be taken", found.faults, as_json)
    text = litellm_config.fleet_file(found.models, file.name)
    if out is not None:
        _write(out, text, as_json)
    if as_json:
        print(to_json(found.as_json(text)))
        return
    if out is None:
        print(text, end="")
    _tell(found, out)


def _write(out: Path, text: str, as_json: bool) -> None:
    try:
        out.write_text(text)
    except OSError as error:
        raise _refused(f"{out} cannot be written: {error.strerror}", [], as_json) from error


def _tell(found: litellm_config.Imported, out: Path | None) -> None:
    say(f"{len(found.models)} models{f' in {out}' if out else ''}")
    for fault in found.faults:
        say(f"  skipped line {fault.line}: {fault.reason}")
    for note in found.notes:
        say(f"  line {note.line}: {note.reason}")
    without = [model["name"] for model in found.models if "like" not in model]
    if without:
        say(f"  add `like: small`, `medium` or `large`, so that the starter examples count for: {', '.join(without)}")


def _row(model: Mapping[str, Any], catalogue_date: str | None) -> dict[str, Any]:
    price = model["price"]
    return {
        "model": model["name"],
        "like": model["like"],
        "input": _dollars(price["input"]),
        "output": _dollars(price["output"]),
        "cached": _dollars(price["cached_input"]),
        "context": model["context"],
        "can": " ".join(_able(model)),
        "protocols": " ".join(model["protocols"]),
        "price from": f"catalogue {catalogue_date}" if "price" in model["from_catalogue"] else "fleet file",
    }


def _able(model: Mapping[str, Any]) -> list[str]:
    return [f"{name}{'?' if model[name] is None else ''}" for name in ABILITIES if model[name] is not False]


def _dollars(price: float | None) -> str | None:
    return None if price is None else f"{price:g}"


def _refused(message: str, faults: Sequence[Fault], as_json: bool) -> SystemExit:
    """Tells the error; raise what it returns."""
    if as_json:
        details = {"faults": [fault.as_json() for fault in faults]}
        print(to_json({"error": {"message": message, "details": details}}))
    else:
        say(f"error: {message}")
        for fault in faults:
            say(f"  line {fault.line}: {fault.reason}")
    return SystemExit(1)
