"""`nearvote examples`: add, list, search, show, relabel, delete."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from scripts.admin import Admin, AdminKey, Url
from scripts.output import AsJson, say, show, table
from scripts.stack import StackName

app = typer.Typer(help="Labelled examples: what the vote is made of.", no_args_is_help=True)

PATH = "/admin/v1/examples"
COLUMNS = ("id", "outcome", "task", "prompt")

Id = Annotated[str, typer.Argument(help="The example's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000)]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL or CSV, or .gz of either.")],
    skip_bad: Annotated[bool, typer.Option(help="Take the good lines and list the bad ones.")] = False,
    replace: Annotated[bool, typer.Option(help="Lines with an id of the index replace that example.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="For the history.")] = "",
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """Upload labelled examples as one new version; a running server routes by it within 5 s."""
    options = {"name": file.name, "skip_bad": skip_bad, "replace": replace, "message": message}
    report = Admin(url, admin_key, as_json, stack).send_long(PATH, file.read_bytes(), "examples", **options)
    show(report, as_json, _told(report))
    if not as_json:
        for fault in report["skipped"]:
            say(f"  skipped line {fault['line']}: {fault['reason']}")


@app.command("list")
def list_examples(
    limit: Limit = 50,
    after: Annotated[str, typer.Option(help="Start behind this id.")] = "",
    task: Annotated[str, typer.Option(help="Only of this task.")] = "",
    text: Annotated[str, typer.Option(help="Only with this in the prompt.")] = "",
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """List examples, oldest first."""
    found = Admin(url, admin_key, as_json, stack).get(PATH, limit=limit, after=after, task=task, text=text)
    more = "\n… more: --after " + found["data"][-1]["id"] if found["more"] else ""
    show(found, as_json, table([_row(example) for example in found["data"]], COLUMNS) + more)


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="A prompt.")],
    limit: Limit = 10,
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """The nearest examples, as the vote finds them."""
    found = Admin(url, admin_key, as_json, stack).get(f"{PATH}/search", q=text, limit=limit)["data"]
    show(found, as_json, table([_row(example) for example in found], ("similarity", *COLUMNS)))


@app.command("show")
def show_example(
    id: Id, url: Url = "", stack: StackName = "", admin_key: AdminKey = "", as_json: AsJson = False
) -> None:
    """One example, whole."""
    example = Admin(url, admin_key, as_json, stack).get(f"{PATH}/{quote(id, safe='')}")
    show(example, as_json, f"{example['id']}  {_outcome(example)}  {example['task']}\n\n{example['prompt']}")


@app.command()
def relabel(
    id: Id,
    model: Annotated[str, typer.Option(help="The cheapest model that does it well.")] = "",
    only: Annotated[str, typer.Option(help="The model this intent belongs to.")] = "",
    scores: Annotated[str, typer.Option(help='JSON: {"model": 0..1, …}')] = "",
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """Give an example another outcome: one of --model, --only, --scores."""
    outcome: dict[str, Any] = {name: value for name, value in (("model", model), ("only", only)) if value}
    if scores:
        outcome["scores"] = _object(scores)
    version = Admin(url, admin_key, as_json, stack).patch(f"{PATH}/{quote(id, safe='')}", outcome)
    show(version, as_json, _version(version))


@app.command()
def delete(
    ids: Annotated[list[str], typer.Argument(help="Ids; all go in one version, or none.")],
    url: Url = "",
    stack: StackName = "",
    admin_key: AdminKey = "",
    as_json: AsJson = False,
) -> None:
    """Delete examples by id."""
    version = Admin(url, admin_key, as_json, stack).post(f"{PATH}/delete", {"ids": ids})
    show(version, as_json, _version(version))


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
    return {**example, "outcome": _outcome(example)}


def _outcome(example: dict[str, Any]) -> str:
    for label in ("model", "only"):
        if label in example:
            return f"{label}: {example[label]}"
    return ", ".join(f"{model} {score:g}" for model, score in example["scores"].items())
