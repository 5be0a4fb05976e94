"""What the signals mean: SIGTERM and SIGINT end the gateway, SIGHUP reads its settings again.

A second SIGTERM or SIGINT ends it at once. A terminal that is closed sends SIGHUP as well; it ends the gateway.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alphatier_server.process.messages import announce


@contextmanager
def signals(end: Callable[[float], None], drain_delay: float, hangup: Callable[[], None]) -> Iterator[None]:
    """For the length of a block: `end` with seconds to listen on (none for Ctrl-C), `hangup` to read again."""
    loop = asyncio.get_running_loop()
    had_terminal = has_terminal()

    def on_hangup() -> None:
        if had_terminal and not has_terminal():
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


def has_terminal() -> bool:
    """Whether standard input is a terminal that is still there."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) >= 0
    except OSError:
        return False


def announce_ending(delay: float, limit: float) -> None:
    """Say what happens when the gateway is told to end."""
    wait = f"for up to {limit:g} s" if limit else "without a limit"
    later = f", listening on for {delay:g} s" if delay else ""
    announce(f"ending: new requests are refused{later}; running ones may finish {wait} (a second signal ends them)")
