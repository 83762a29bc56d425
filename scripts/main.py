"""`nearvote`: the operator's commands, one file a group."""

import typer

from scripts import bootstrap, evaluate, examples, fleet, keys, model, run, versions
from scripts.place import AdminKey, Place, StackName, Url, refuse_meaningless

app = typer.Typer(
    help="nearvote: the nearest labelled examples vote for the model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(examples.app, name="examples")
app.add_typer(versions.app, name="index")
app.add_typer(fleet.app, name="fleet")
app.add_typer(model.app, name="model")
app.command("run")(run.run)
app.command("bootstrap")(bootstrap.bootstrap)
app.command("evaluate")(evaluate.evaluate)


@app.callback()
def place(ctx: typer.Context, url: Url = None, stack: StackName = None, admin_key: AdminKey = None) -> None:
    ctx.obj = Place(url, stack, admin_key)
    refuse_meaningless(ctx.invoked_subcommand or "", ctx.obj)


def main() -> None:
    app()
