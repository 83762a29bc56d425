"""`nearvote examples`: add, list, search, show, relabel, delete."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from scripts.admin import Admin, with_admin
from scripts.output import say, table

app = typer.Typer(help="Labelled examples: what the vote is made of.", no_args_is_help=True)

PATH = "/admin/v1/examples"
COLUMNS = ("id", "outcome", "task", "prompt")
NO_TEXT = "(no text)"
"""Stands for a prompt that was kept out of storage."""

Id = Annotated[str, typer.Argument(help="The example's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000)]


@app.command()
@with_admin
def add(
    admin: Admin,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL or CSV, or .gz of either.")],
    skip_bad: Annotated[bool, typer.Option(help="Take the good lines and list the bad ones.")] = False,
    replace: Annotated[bool, typer.Option(help="Lines with an id of the index replace that example.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="For the history.")] = "",
) -> None:
    """Upload labelled examples as one new version; a running server routes by it within 5 s."""
    options = {"name": file.name, "skip_bad": skip_bad, "replace": replace, "message": message}
    report = admin.send_long(PATH, file.read_bytes(), "examples", **options)
    admin.show(report, _told(report))
    if not admin.as_json:
        for fault in report["skipped"]:
            say(f"  skipped line {fault['line']}: {fault['reason']}")


@app.command("list")
@with_admin
def list_examples(
    admin: Admin,
    limit: Limit = 50,
    after: Annotated[str, typer.Option(help="Start behind this id.")] = "",
    task: Annotated[str, typer.Option(help="Only of this task.")] = "",
    text: Annotated[str, typer.Option(help="Only with this in the prompt.")] = "",
) -> None:
    """List examples, oldest first."""
    found = admin.get(PATH, limit=limit, after=after, task=task, text=text)
    more = "\n… more: --after " + found["data"][-1]["id"] if found["more"] else ""
    admin.show(found, table([_row(example) for example in found["data"]], COLUMNS) + more)


@app.command()
@with_admin
def search(
    admin: Admin,
    text: Annotated[str, typer.Argument(help="A prompt.")],
    limit: Limit = 10,
) -> None:
    """The nearest examples, as the vote finds them."""
    found = admin.get(f"{PATH}/search", q=text, limit=limit)["data"]
    admin.show(found, table([_row(example) for example in found], ("similarity", *COLUMNS)))


@app.command("show")
@with_admin
def show_example(admin: Admin, id: Id) -> None:
    """One example, whole."""
    example = admin.get(f"{PATH}/{quote(id, safe='')}")
    head = (example["id"], _outcome(example), example["task"], example.get("source"))
    admin.show(example, f"{'  '.join(filter(None, head))}\n\n{example['prompt'] or NO_TEXT}")


@app.command()
@with_admin
def relabel(
    admin: Admin,
    id: Id,
    model: Annotated[str, typer.Option(help="The cheapest model that does it well.")] = "",
    only: Annotated[str, typer.Option(help="The model this intent belongs to.")] = "",
    scores: Annotated[str, typer.Option(help='JSON: {"model": 0..1, …}')] = "",
) -> None:
    """Give an example another outcome: one of --model, --only, --scores."""
    outcome: dict[str, Any] = {name: value for name, value in (("model", model), ("only", only)) if value}
    if scores:
        outcome["scores"] = _object(scores)
    version = admin.patch(f"{PATH}/{quote(id, safe='')}", outcome)
    admin.show(version, _version(version))


@app.command()
@with_admin
def delete(
    admin: Admin,
    ids: Annotated[list[str], typer.Argument(help="Ids; all go in one version, or none.")],
) -> None:
    """Delete examples by id."""
    version = admin.post(f"{PATH}/delete", {"ids": ids})
    admin.show(version, _version(version))


def _object(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--scores") from error


def _told(report: dict[str, Any]) -> str:
    counts = f"{report['added']} added, {report['replaced']} replaced, {len(report['skipped'])} skipped"
    return f"{counts}; {_version(report)}"


def _version(version: dict[str, Any]) -> str:
    return f"version {version['number']} ({version['version']}), {version['examples']} examples"


def _row(example: dict[str, Any]) -> dict[str, Any]:
    prompt = example["prompt"] or f"{NO_TEXT} {example.get('source', '')}"
    return {**example, "outcome": _outcome(example), "prompt": prompt}


def _outcome(example: dict[str, Any]) -> str:
    for label in ("model", "only"):
        if label in example:
            return f"{label}: {example[label]}"
    return ", ".join(f"{model} {score:g}" for model, score in example["scores"].items())
