"""Who may see a page: keys are looked at before a body is read.

`/admin` is for administrators; what begins with `/v1/` is for holders of a key, where the gateway has keys. The
generating paths ask for their key themselves, so that a refusal is recorded as every request is.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from alphatier_server.errors import Forbidden, GatewayError, Unauthorized
from alphatier_server.gateway.request import Head
from alphatier_server.keys.access import Access
from alphatier_server.middleware.errors import error_response


class AuthMiddleware:
    """Puts the caller into the request's state (`request.state.caller`)."""

    def __init__(self, app: ASGIApp, access: Access, generating: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._generating = generating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._generating:
            try:
                self._admit(scope)
            except GatewayError as error:
                await error_response(scope, error, {"connection": "close"})(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if path.startswith("/admin"):
            self._require_admin(scope)
        elif path.startswith("/v1/"):
            caller = self._access.caller(*Head(scope["headers"]).credentials())
            scope.setdefault("state", {})["caller"] = caller

    def _require_admin(self, scope: Scope) -> None:
        credentials = Head(scope["headers"]).credentials()
        admin = self._access.admin(*credentials)
        if admin is None and credentials == (None, None):
            raise Unauthorized(
                "The admin API needs a key: `alphatier keys new NAME --admin` makes one; send it as a bearer token.",
                code="missing_api_key",
            )
        if admin is None:
            raise Forbidden("This key may not use the admin API.", code="not_an_admin")
        scope.setdefault("state", {})["admin"] = admin
