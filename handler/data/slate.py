"""What `auto` may choose from for one request: the fleet, less what the request needs, a rule, the key and the request
itself rule out. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from handler.errors import BadRequest, NotFound
from handler.fleet import Fleet, Model
from handler.flow import Ask, Prompt
from handler.keys import KeyRecord
from handler.rules import Rule
from index.dial import Curve, Promise

SLACK = 1.25
"""A prompt that is estimated at so many times what fits still goes to the largest model where nothing else fits: prose
has a fifth fewer tokens than we estimate, and the provider counts them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the dial stands for one request."""

    dial: float
    promise: Promise | None = None
    """What the curve promises there, to a request that asked for a floor or a ceiling."""


@dataclass(frozen=True, slots=True)
class Slate:
    """The models that stand for one request, and how the dial is set for it."""

    names: tuple[str, ...]
    """At least one, in the fleet's order."""
    fallback: str
    """What answers when there is no vote."""
    dial: float
    """Where neither a floor nor a ceiling sets it."""
    min_quality: float | None
    max_cost: float | None
    whole: bool
    """Whether the whole fleet stands, which is what the curve was measured on."""
    dearest_first: tuple[str, ...]
    """The names, for want of a ranking."""

    def setting(self, curve: Curve) -> Setting | None:
        """None where the curve, which has nothing to tell, is asked for a floor or a ceiling."""
        asked = self.min_quality is not None or self.max_cost is not None
        if asked and not curve.examples:
            return None
        dial = self._dial(curve)
        return Setting(dial, curve.promise(dial) if asked and self.whole else None)

    def _dial(self, curve: Curve) -> float:
        if self.min_quality is not None:
            return curve.dial_for_quality(self.min_quality)
        if self.max_cost is not None:
            return curve.dial_for_spend(self.max_cost)
        return self.dial


def draw(
    ask: Ask,
    key: KeyRecord,
    fleet: Fleet,
    rule: Rule | None = None,
    latency: Mapping[str, float] | None = None,
    sealed_by: str = "",
) -> Slate:
    """`latency`: expected milliseconds by model, as far as known. `sealed_by`: base URL of the deployment that alone
    can read all of the request. Raises BadRequest for a model that does not exist, NotFound naming the restriction that
    left none."""
    wanted = ask.preferences
    unknown = [model for model in wanted.models if model not in fleet.by_name]
    if unknown:
        raise BadRequest(f"`models` names {unknown[0]!r}; the fleet has {', '.join(fleet.by_name)}", param="models")
    models = fleet.models
    for restriction, keeps in (*_abilities(ask), *_restrictions(ask, key, rule)):
        left = tuple(model for model in models if keeps(model))
        if not left:
            before = ", ".join(model.name for model in models)
            raise NotFound(f"no model is left to choose: {restriction} left none of {before}", code="no_model_left")
        models = left
    standing = _readers(_roomy(models, ask.prompt), sealed_by)
    names = _fast_enough(tuple(model.name for model in standing), ask, key, latency or {})
    return Slate(
        names,
        _fallback(names, key, fleet),
        _dial(ask, key, rule),
        wanted.min_quality,
        wanted.max_cost,
        whole=len(names) == len(fleet.models),
        dearest_first=tuple(name for name in fleet.dearest_first if name in names),
    )


Restriction = tuple[str, Callable[[Model], bool]]


def _abilities(ask: Ask) -> tuple[Restriction, ...]:
    """What a model must be able to do to answer at all."""
    protocol, prompt = ask.protocol, ask.prompt
    needs = sorted(ask.needs, key=lambda need: need.value)
    return (
        (f"the protocol of {protocol.value}", lambda model: protocol in model.protocols),
        *((f"the request's {need.value}", lambda model, need=need: need not in model.lacks) for need in needs),
        (_size(prompt), lambda model: _fits(prompt, model, slack=SLACK)),
    )


def _size(prompt: Prompt) -> str:
    """In the words by which coding agents know that they have to compact their context."""
    size = f"about {prompt.input_tokens} tokens, and {_answer_tokens(prompt)} for the answer"
    return f"the request's size (prompt is too long: {size})"


def _fits(prompt: Prompt, model: Model, slack: float = 1.0) -> bool:
    tokens = prompt.input_tokens / slack + _answer_tokens(prompt)
    whole = model.context is None or tokens <= model.context
    answer = model.max_output is None or (prompt.most_output_tokens or 0) <= model.max_output
    return whole and answer


def _answer_tokens(prompt: Prompt) -> int:
    return prompt.most_output_tokens or prompt.output_tokens


def _restrictions(ask: Ask, key: KeyRecord, rule: Rule | None) -> tuple[Restriction, ...]:
    wanted, tier = ask.preferences, rule.tier if rule else None
    return (
        (f"the rule {rule.name!r}" if rule else "", lambda model: tier in (None, model.like)),
        ("the key's allowed models", lambda model: not key.allow or matches(key.allow, model.name)),
        ("the key's excluded models", lambda model: not matches(key.exclude, model.name)),
        ("the request's `models`", lambda model: not wanted.models or model.name in wanted.models),
        ("the request's allowed_models", lambda model: not wanted.allow or matches(wanted.allow, model.name)),
        ("the request's excluded_models", lambda model: not matches(wanted.exclude, model.name)),
    )


def _roomy(models: Sequence[Model], prompt: Prompt) -> Sequence[Model]:
    """Those that the request fits; where none is, the largest, whose provider may count fewer tokens than we."""
    fit = [model for model in models if _fits(prompt, model)]
    largest = max(model.context or 0 for model in models)
    return fit or [model for model in models if model.context == largest]


def _readers(models: Sequence[Model], sealed_by: str) -> Sequence[Model]:
    """Those that are served there; where none is any more, all: one of them may do without."""
    there = [model for model in models if any(one.base_url == sealed_by for one in model.deployments)]
    return there or models


def _fast_enough(names: tuple[str, ...], ask: Ask, key: KeyRecord, latency: Mapping[str, float]) -> tuple[str, ...]:
    """Those that are not known to be too slow; where all are, the fastest: late is better than not at all."""
    wanted = ask.preferences.max_latency_ms
    most = key.max_latency_ms if wanted is None else wanted
    if most is None:
        return names
    fast = tuple(name for name in names if latency.get(name, 0.0) <= most)
    return fast or (min(names, key=lambda name: latency[name]),)


def matches(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _dial(ask: Ask, key: KeyRecord, rule: Rule | None) -> float:
    """The request's word, else the rule's, else the key's."""
    wishes = (ask.preferences.dial, rule.dial if rule else None, key.dial)
    return next(wish for wish in wishes if wish is not None)


def _fallback(names: Sequence[str], key: KeyRecord, fleet: Fleet) -> str:
    """The key's default, the fleet's, else the dearest of those that stand."""
    wishes = (key.default_model, fleet.default, *fleet.dearest_first)
    return next(wish for wish in wishes if wish is not None and wish in names)
