"""Everything that a caller can be told, and its one JSON shape (OpenAI's).

ApiError                     status type                     code                      retry
├── BadRequest               400    invalid_request_error    (given)                   no
├── BodyTooLarge             413    invalid_request_error    body_too_large            no
├── Unauthenticated          401    authentication_error     invalid_api_key           no
├── AdminOnly                403    permission_error         admin_only                no
├── RoutingOff               403    permission_error         routing_off               no
├── NotFound                 404    invalid_request_error    (given)                   no
├── MethodNotAllowed         405    invalid_request_error    method_not_allowed        no
├── Conflicting              409    invalid_request_error    (given)                   no
├── UpstreamFailed           502    upstream_error           upstream_failed           yes
├── Unavailable              503    server_error             (given)                   yes
├── UpstreamTimeout          504    upstream_error           upstream_timeout          yes
└── Internal                 500    server_error             internal_error            yes
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from starlette.responses import Response


class ApiError(Exception):
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        """More for programs, such as an upload's bad lines; left out of the JSON when None."""
        if code is not None:
            self.code = code

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error if self.details is None else {**error, "details": self.details}}

    def response(self, evidence: Mapping[str, str] | None = None) -> Response:
        headers = {**(evidence or {}), "x-nearvote-retryable": "true" if self.retryable else "false"}
        return Response(orjson.dumps(self.body()), self.status, headers, media_type="application/json")


class BadRequest(ApiError):
    status, type, code = 400, "invalid_request_error", "invalid_value"


class BodyTooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "body_too_large"


class Unauthenticated(ApiError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class AdminOnly(ApiError):
    status, type, code = 403, "permission_error", "admin_only"


class RoutingOff(ApiError):
    status, type, code = 403, "permission_error", "routing_off"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class MethodNotAllowed(ApiError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflicting(ApiError):
    status, type, code = 409, "invalid_request_error", "conflict"


class UpstreamFailed(ApiError):
    status, type, code, retryable = 502, "upstream_error", "upstream_failed", True


class Unavailable(ApiError):
    status, type, code, retryable = 503, "server_error", "unavailable", True


class UpstreamTimeout(ApiError):
    status, type, code, retryable = 504, "upstream_error", "upstream_timeout", True


class Internal(ApiError):
    retryable = True
