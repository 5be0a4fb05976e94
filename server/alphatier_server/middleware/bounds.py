"""What is read of a request, whatever server brings it: host, path, and a body of bounded size in bounded time.

Bodies of generating paths are left to the gateway, which asks for the key before it reads them.
"""

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alphatier_server.errors import ClientGone, GatewayError, InvalidRequest, NotFound, RequestTimeout
from alphatier_server.middleware.errors import error_response
from alphatier_server.settings.clients import ClientLimits

_NAMES_IN_PATHS = (b"/v1/models/", b"/admin/")
"""Below these a name may be spelt with percent signs; elsewhere they would only get around somebody's path rule."""


class BoundsMiddleware:
    """`generating` are the paths whose bodies are not read here."""

    def __init__(self, app: ASGIApp, limits: ClientLimits, generating: Collection[str]) -> None:
        self._app = app
        self._limits = limits
        self._generating = generating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # RFC 9110, 9.3.2: the answer to GET without its content
            scope, send = {**scope, "method": "GET"}, _without_content(send)
        try:
            self._check(scope)
            if scope["path"] not in self._generating:
                receive = _replay(await read_body(scope, receive, self._limits), receive)
        except ClientGone:
            return
        except GatewayError as error:
            closing = {"connection": "close"} if error.status in (408, 413) else {}
            await error_response(scope, error, closing)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        if scope.get("http_version") == "1.1" and hosts != 1:  # RFC 9112, 3.2
            raise InvalidRequest("HTTP/1.1 needs one Host header.", code="invalid_http")
        if (fault := self._limits.wrong_host(scope["headers"])) is not None:
            raise fault
        raw = scope.get("raw_path") or b""
        if b"%" in raw and not raw.startswith(_NAMES_IN_PATHS):
            raise NotFound(f"There is no {raw.decode('latin-1'):.100}; /docs lists what there is.")


async def read_body(scope: Scope, receive: Receive, limits: ClientLimits) -> bytes:
    """The whole body. Raises BodyTooLarge, RequestTimeout or ClientGone."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if length.isdigit() and int(length) > limits.body_bytes:
        raise limits.body_too_large()
    try:
        async with asyncio.timeout(limits.timeout):
            return await _pieces(receive, limits)
    except TimeoutError:
        raise RequestTimeout("The request did not arrive in time.", code="request_timeout") from None


async def _pieces(receive: Receive, limits: ClientLimits) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limits.body_bytes:
            raise limits.body_too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """What was read, then what follows."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _without_content(send: Send) -> Send:
    async def sent(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sent
