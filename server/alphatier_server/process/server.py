"""What all processes of a gateway have in common: the loop, servers and what runs beside them, the sudden end."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from alphatier_server.accelerator.bounded import bounded_protocol
from alphatier_server.app import beside
from alphatier_server.logs import standard_error
from alphatier_server.process.messages import announce
from alphatier_server.process.sockets import url_of
from alphatier_server.settings.clients import ClientLimits

GEN_0_THRESHOLD = 50_000
"""Allocations between two looks of the garbage collector; Python's 700 are a few requests."""
CUT_OFF_SECONDS = 5.0
"""How long the process may take to tidy up after it was told twice."""
LAST_SECONDS = 2
"""How long a scrape that runs may hold the end."""


def run_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on the fastest loop there is, with a garbage collector that looks seldom."""
    gc.set_threshold(GEN_0_THRESHOLD, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def freeze() -> None:
    """What is loaded now lives as long as the process; the collector need not look at it again."""
    gc.collect()
    gc.freeze()


class QuietServer(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are for the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Background:
    """Tasks beside a server. The first fault (theirs, or one told to `fail`) ends the server, by `end`."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        if self._fault is None:
            self._fault = fault
            self._end()

    @contextlib.asynccontextmanager
    async def running(self, *coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run them for the length of a block, and let them tidy up at its end. Raises the first fault then."""
        async with beside(*coroutines, on_fault=self.fail):
            yield
        if self._fault is not None:
            raise self._fault


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


@contextlib.contextmanager
def signals(end: Callable[[float], None], drain_delay: float, hangup: Callable[[], None]) -> Iterator[None]:
    """For the length of a block: `end` with seconds to listen on (none for Ctrl-C), `hangup` to read again.

    A terminal that is closed sends SIGHUP as well; it ends the gateway.
    """
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()

    def on_hangup() -> None:
        if had_terminal and not _has_terminal():
            end(0.0)
        else:
            hangup()

    loop.add_signal_handler(signal.SIGTERM, end, drain_delay)
    loop.add_signal_handler(signal.SIGINT, end, 0.0)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _has_terminal() -> bool:
    """Whether standard input is a terminal that is still there."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) >= 0
    except OSError:
        return False


def end_process_soon() -> None:
    """Whatever still waits (an engine's end, a thread) may not hold the process for long."""
    asyncio.get_running_loop().call_later(CUT_OFF_SECONDS, exit_now)


def exit_now() -> None:
    """End the process, whatever still runs, with what it said last."""
    standard_error().flush(0.2)
    os._exit(1)
