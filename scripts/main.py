"""`nearvote`: the operator's commands, one file a group."""

import typer

from scripts import bootstrap, examples, keys, model, run, versions

app = typer.Typer(
    help="nearvote: the nearest labelled examples vote for the model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(examples.app, name="examples")
app.add_typer(versions.app, name="index")
app.add_typer(model.app, name="model")
app.command("run")(run.run)
app.command("bootstrap")(bootstrap.bootstrap)


def main() -> None:
    app()
