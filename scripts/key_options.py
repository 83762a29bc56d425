"""What can be chosen for a key, as options of the commands that create and change keys."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from handler.keys import Routing
from scripts.admin import Admin

Own = ParamSpec("Own")
Dollars = Annotated[float | None, typer.Option(min=0, help="Dollars; 0 takes it away.")]
PerMinute = Annotated[int | None, typer.Option(min=0, help="At most so many a minute; 0 takes it away.")]


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """Each field is an option; None where it was not given."""

    routing: Annotated[Routing | None, typer.Option(help="Whether `auto` works: off, forecast or on.")] = None
    dial: Annotated[float | None, typer.Option(min=0, max=10, help="0 = most capable … 10 = cheapest.")] = None
    default_model: Annotated[str | None, typer.Option(help='What answers when there is no vote; "" takes it away.')] = (
        None
    )
    allow: Annotated[list[str] | None, typer.Option(help="Glob of models `auto` may choose; repeat for more.")] = None
    exclude: Annotated[
        list[str] | None, typer.Option(help="Glob of models `auto` may not choose; repeat for more.")
    ] = None
    route_models: Annotated[
        list[str] | None,
        typer.Option("--route-model", help="Glob of names that are routed as `auto` is; repeat for more."),
    ] = None
    baseline_model: Annotated[
        str | None, typer.Option(help='What savings are counted against; "": the default model.')
    ] = None
    budget_day: Dollars = None
    budget_month: Dollars = None
    budget_total: Dollars = None
    requests_per_minute: PerMinute = None
    tokens_per_minute: PerMinute = None
    max_latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Models that take longer do not stand; 0 takes it away.")
    ] = None
    speed: Annotated[
        float | None, typer.Option(min=0, max=1, help="Quality, 0 to 1, that ten times the speed is worth.")
    ] = None
    expires_at: Annotated[int | None, typer.Option(help="Seconds since the epoch; 0 takes it away.")] = None

    def given(self) -> dict[str, Any]:
        """Those that were, as the control plane takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _sent(name, value) for name, value in values.items() if value is not None}


def with_key_options(command: Callable[Concatenate[Admin, KeyOptions, Own], None]) -> Callable[..., None]:
    """The command as `with_admin` takes it: each of the options stands in for its KeyOptions."""
    names = [field.name for field in fields(KeyOptions)]

    def run(admin: Admin, *args: Own.args, **given: Own.kwargs) -> None:
        chosen: dict[str, Any] = {name: given.pop(name) for name in names}
        command(admin, KeyOptions(**chosen), *args, **given)

    admin, _, *its_own = signature(command).parameters.values()
    options = [
        Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=field.type)
        for field in fields(KeyOptions)
    ]
    run.__signature__ = Signature([admin, *its_own, *options])  # type: ignore[attr-defined]
    return update_wrapper(run, command)


def _sent(name: str, value: Any) -> Any:
    """ "" and 0 take away what was there, but for the dial, whose 0 is a setting."""
    if isinstance(value, Routing):
        return value.value
    if isinstance(value, list):
        return [glob for glob in value if glob]
    return value if value or name == "dial" else None
