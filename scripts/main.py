"""`nearvote`: the operator's commands, one file a group."""

import typer

from scripts import bootstrap, evaluate, examples, keys, model, run, versions
from scripts.place import AdminKey, Place, StackName, Url

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
app.command("evaluate")(evaluate.evaluate)

MEANINGLESS = {
    "run": {"--url", "--stack", "--admin-key"},
    "model": {"--url", "--stack", "--admin-key"},
    "evaluate": {"--url", "--stack", "--admin-key"},
    "bootstrap": {"--url", "--admin-key"},
}
"""Options to commands that speak to no control plane."""


@app.callback()
def place(ctx: typer.Context, url: Url = None, stack: StackName = None, admin_key: AdminKey = None) -> None:
    for option, value in (("--url", url), ("--stack", stack), ("--admin-key", admin_key)):
        if value is not None and option in MEANINGLESS.get(ctx.invoked_subcommand or "", ()):
            raise typer.BadParameter(f"`nearvote {ctx.invoked_subcommand}` does not take it", param_hint=option)
    ctx.obj = Place(url, stack, admin_key)


def main() -> None:
    app()
