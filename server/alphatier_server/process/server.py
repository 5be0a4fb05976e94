"""Uvicorn's server with the gateway's own end, and the second port for operators.

Told to end, the process is draining at once (not ready; new requests get 503, Retry-After and `connection:
close`), but listens on for a while, so that load balancers notice before connections are refused. Then the
listener closes, and requests that run may finish within the drain limit. Told twice, it cuts them off.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from alphatier_server.accelerator.bounded import bounded_protocol
from alphatier_server.gateway.state import GatewayState
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
        """None."""
        yield


class GatewayServer(QuietServer):
    """The server of one process's public port."""

    def __init__(self, config: uvicorn.Config, state: GatewayState) -> None:
        super().__init__(config)
        self._state = state
        self.cut_off = False
        """Whether requests that ran were cut off."""

    def end(self, delay: float) -> None:
        """Drain and end: listen on for `delay` seconds. The second call ends at once."""
        if self._state.draining:
            self._cut_off()
            return
        self._state.draining = True
        asyncio.get_running_loop().call_later(delay, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True

    def _cut_off(self) -> None:
        if self.cut_off:
            exit_now()  # somebody insists
        self.cut_off = self.should_exit = self.force_exit = True
        end_process_soon()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def server_config(app: Any, limits: ClientLimits, *, protocol: Any = None, **more: Any) -> uvicorn.Config:
    """What the servers of all ports have in common."""
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
