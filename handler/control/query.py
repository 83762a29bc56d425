"""Query parameters, read strictly: what does not fit is a 400, never ignored."""

from starlette.requests import Request

from handler.errors import BadRequest

MOST_DIGITS = 9


def only(request: Request, *names: str) -> None:
    """Raises BadRequest for a parameter that is none of these."""
    unknown = [name for name in request.query_params if name not in names]
    if unknown:
        known = f"there are {', '.join(names)}" if names else "there are none here"
        raise BadRequest(f"unknown query parameter {unknown[0]!r}; {known}", param=unknown[0])


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > MOST_DIGITS or not least <= int(text) <= most:
        raise BadRequest(f"{name} must be a whole number from {least} to {most}, not {text!r}", param=name)
    return int(text)


def flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name} must be true or false, not {text!r}", param=name)
    return text in ("true", "1")
