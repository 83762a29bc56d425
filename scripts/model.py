"""`nearvote model`: the embedding model's files."""

import os

import typer

from index.errors import ModelFilesMissing
from scripts import model_files
from scripts.output import AsJson, say, show

app = typer.Typer(help="The embedding model's files.", no_args_is_help=True)


@app.command()
def fetch(as_json: AsJson = False) -> None:
    """Bring the pinned files into the user's cache, unless they are there, and print where they are."""
    try:
        directory = model_files.ensure(os.environ, report=say)
    except ModelFilesMissing as error:
        raise SystemExit(str(error)) from error
    show({"directory": str(directory)}, as_json, str(directory))
