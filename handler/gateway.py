"""API Gateway event → Mangum → an app: what both Lambda entries share."""

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import HTTPGateway
from mangum.types import Scope
from starlette.applications import Starlette

TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/x-ndjson"]
"""Content types that go back as they are; Mangum would base64 any other, which a REST API does not undo."""


class StagedHTTPGateway(HTTPGateway):
    """An HTTP API puts a named stage before the path, a REST API does not."""

    @property
    def scope(self) -> Scope:
        scope = super().scope
        stage = f"/{self.event['requestContext']['stage']}"
        if f"{scope['path']}/".startswith(f"{stage}/"):
            scope["path"] = scope["path"].removeprefix(stage) or "/"
        return scope


def behind_api_gateway(app: Starlette) -> Mangum:
    """The function that Lambda calls. No lifespan: Mangum would start and stop the app at every event."""
    return Mangum(app, lifespan="off", custom_handlers=[StagedHTTPGateway], text_mime_types=TEXT)
