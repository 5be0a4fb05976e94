"""The second port: /metrics, /admin, /docs and /health for operators, where clients do not come.

It is served until the very end, so that a drain can be watched.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn

from alphatier_server.accelerator.bounded import bounded_protocol
from alphatier_server.process.console import announce, url_of
from alphatier_server.process.server import QuietServer
from alphatier_server.process.sockets import listen
from alphatier_server.settings.clients import ClientLimits
from alphatier_server.settings.gateway import ListenSettings

LAST_SECONDS = 2
"""How long a scrape that runs may hold the end."""


def listen_second(settings: ListenSettings) -> socket.socket | None:
    """The second port's socket, if there is to be one. Raises ServeError."""
    if settings.admin_port is None:
        return None
    return listen(settings.admin_host, settings.admin_port, option="--admin-port")


@contextlib.asynccontextmanager
async def second_port(
    listener: socket.socket | None, app: Callable[[], Any], limits: ClientLimits
) -> AsyncIterator[None]:
    """Serve the pages that `app` makes there for the length of a block."""
    if listener is None:
        yield
        return
    config = uvicorn.Config(
        app(),
        http=bounded_protocol(limits),
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.keep_alive),
        timeout_graceful_shutdown=LAST_SECONDS,
        lifespan="off",
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    announce(f"metrics, admin and docs are at {url_of(listener)}")
    try:
        yield
    finally:
        server.should_exit = True
        await task
