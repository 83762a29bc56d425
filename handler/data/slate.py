"""What `auto` may choose from for one request: the fleet, less what the key and the request rule out. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from handler.errors import BadRequest, NotFound
from handler.fleet import Fleet
from handler.flow import Preferences
from handler.keys import KeyRecord
from index.dial import Curve, Promise


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


def draw(wanted: Preferences, key: KeyRecord, fleet: Fleet) -> Slate:
    """Raises BadRequest for a model that does not exist, NotFound naming the restriction that left none."""
    unknown = [model for model in wanted.models if model not in fleet.by_name]
    if unknown:
        raise BadRequest(f"`models` names {unknown[0]!r}; the fleet has {', '.join(fleet.by_name)}", param="models")
    names = tuple(fleet.by_name)
    for restriction, keeps in _restrictions(wanted, key):
        left = tuple(name for name in names if keeps(name))
        if not left:
            raise NotFound(
                f"no model is left to choose: {restriction} left none of {', '.join(names)}", code="no_model_left"
            )
        names = left
    return Slate(
        names,
        _fallback(names, key, fleet),
        key.dial if wanted.dial is None else wanted.dial,
        wanted.min_quality,
        wanted.max_cost,
        whole=len(names) == len(fleet.models),
    )


def _restrictions(wanted: Preferences, key: KeyRecord) -> tuple[tuple[str, Callable[[str], bool]], ...]:
    return (
        ("the key's allowed models", lambda name: not key.allow or _matches(key.allow, name)),
        ("the key's excluded models", lambda name: not _matches(key.exclude, name)),
        ("the request's `models`", lambda name: not wanted.models or name in wanted.models),
        ("the request's allowed_models", lambda name: not wanted.allow or _matches(wanted.allow, name)),
        ("the request's excluded_models", lambda name: not _matches(wanted.exclude, name)),
    )


def _matches(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _fallback(names: Sequence[str], key: KeyRecord, fleet: Fleet) -> str:
    """The key's default, the fleet's, else the dearest of those that stand."""
    wishes = (key.default_model, fleet.default, *fleet.dearest_first)
    return next(wish for wish in wishes if wish is not None and wish in names)
