"""Everything that a caller can be told, in the shape of the protocol that was called.

ApiError                     status type                     code                      retry
├── BadRequest               400    invalid_request_error    (given)                   no
├── BodyTooLarge             413    invalid_request_error    body_too_large            no
├── TooManyTokens            413    invalid_request_error    too_many_tokens           no
├── Unauthenticated          401    authentication_error     invalid_api_key           no
├── AdminOnly                403    permission_error         admin_only                no
├── RoutingOff               403    permission_error         routing_off               no
├── Denied                   403    permission_error         denied_by_rule            no
├── NotFound                 404    invalid_request_error    (given)                   no
├── MethodNotAllowed         405    invalid_request_error    method_not_allowed        no
├── Conflicting              409    invalid_request_error    (given)                   no
├── BudgetSpent              429    rate_limit_error         budget_exceeded           no
├── RateLimited              429    rate_limit_error         rate_limit_exceeded       yes
├── UpstreamFailed           502    upstream_error           upstream_failed           yes
├── UpstreamKeyRefused       502    upstream_error           upstream_key_refused      no
├── Unavailable              503    server_error             (given)                   yes
├── UpstreamTimeout          504    upstream_error           upstream_timeout          yes
└── Internal                 500    server_error             internal_error            yes
"""

import enum
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from starlette.responses import Response


class Shape(enum.Enum):
    """How an error's JSON looks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; any other is an api_error."""


class ApiError(Exception):
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: Any = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        """Seconds after which to try again, where that is known."""
        self.details = details
        """More for programs, such as an upload's bad lines; left out of the JSON when None."""
        if code is not None:
            self.code = code

    def body(self, shape: Shape = Shape.OPENAI) -> dict[str, Any]:
        """Anthropic's shape has a `code` beside what Anthropic's own has: it is what programs can rely on."""
        more = {} if self.details is None else {"details": self.details}
        if shape is Shape.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
            return {"type": "error", "error": {"type": kind, "message": self.message, "code": self.code, **more}}
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code, **more}}

    def response(self, shape: Shape = Shape.OPENAI, headers: Mapping[str, str] | None = None) -> Response:
        told = {**(headers or {}), "x-nearvote-retryable": "true" if self.retryable else "false"}
        if self.retry_after is not None:
            told["retry-after"] = str(self.retry_after)
        if not self.retryable:
            told["x-should-retry"] = "false"  # the clients' own libraries would try some of these again, for nothing
        return Response(orjson.dumps(self.body(shape)), self.status, told, media_type="application/json")


class BadRequest(ApiError):
    status, type, code = 400, "invalid_request_error", "invalid_value"


class BodyTooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "body_too_large"


class TooManyTokens(ApiError):
    """More than the key may send in any minute: waiting does not help."""

    status, type, code = 413, "invalid_request_error", "too_many_tokens"


class Unauthenticated(ApiError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class AdminOnly(ApiError):
    status, type, code = 403, "permission_error", "admin_only"


class RoutingOff(ApiError):
    status, type, code = 403, "permission_error", "routing_off"


class Denied(ApiError):
    status, type, code = 403, "permission_error", "denied_by_rule"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class MethodNotAllowed(ApiError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflicting(ApiError):
    status, type, code = 409, "invalid_request_error", "conflict"


class BudgetSpent(ApiError):
    status, type, code = 429, "rate_limit_error", "budget_exceeded"


class RateLimited(ApiError):
    status, type, code, retryable = 429, "rate_limit_error", "rate_limit_exceeded", True


class UpstreamFailed(ApiError):
    status, type, code, retryable = 502, "upstream_error", "upstream_failed", True


class UpstreamKeyRefused(ApiError):
    """The provider does not take the key that the fleet file has for it."""

    status, type, code = 502, "upstream_error", "upstream_key_refused"


class Unavailable(ApiError):
    status, type, code, retryable = 503, "server_error", "unavailable", True


class UpstreamTimeout(ApiError):
    status, type, code, retryable = 504, "upstream_error", "upstream_timeout", True


class Internal(ApiError):
    retryable = True
