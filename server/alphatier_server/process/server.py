"""What all servers of a process have in common, the second port for operators, and the process's sudden end."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from alphatier_server.accelerator.bounded import bounded_protocol
from alphatier_server.logs import standard_error
from alphatier_server.process.messages import announce
from alphatier_server.process.sockets import url_of
from alphatier_server.settings.clients import ClientLimits

CUT_OFF_SECONDS = 5.0
"""How long the process may take to tidy up after it was told twice."""
LAST_SECONDS = 2
"""How long a scrape that runs may hold the end."""


class QuietServer(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are for the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_config(app: Any, limits: ClientLimits, *, protocol: Any = None, **more: Any) -> uvicorn.Config:
    """Uvicorn's settings for a port of this process."""
    return uvicorn.Config(
        app,
        http=protocol or bounded_protocol(limits),
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.keep_alive),
        **more,
    )


@contextlib.asynccontextmanager
async def second_port(
    listener: socket.socket | None, app: Callable[[], Any], limits: ClientLimits
) -> AsyncIterator[None]:
    """Serve the pages that `app` makes there to the very end of a block, so that a drain can be watched."""
    if listener is None:
        yield
        return
    server = QuietServer(server_config(app(), limits, timeout_graceful_shutdown=LAST_SECONDS, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    announce(f"metrics, admin and docs are at {url_of(listener)}")
    try:
        yield
    finally:
        server.should_exit = True
        await task


def end_process_soon() -> None:
    """Whatever still waits (an engine's end, a thread) may not hold the process for long."""
    asyncio.get_running_loop().call_later(CUT_OFF_SECONDS, exit_now)


def exit_now() -> None:
    """End the process, whatever still runs, with what it said last."""
    standard_error().flush(0.2)
    os._exit(1)
