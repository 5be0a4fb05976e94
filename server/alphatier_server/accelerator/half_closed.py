"""Clients that have ended their side of the connection: do they still listen, or are they gone?

The end of a client's bytes (FIN) means either. A system whose program has closed the socket answers the next bytes
with a reset, one that still listens takes them. So something is sent that HTTP allows before any answer, an
interim response (RFC 9110, 15.2), or in a stream a comment; then the kernel is asked what has become of the
connection (tcp(7), TCP_INFO).
"""

import asyncio
import socket
import sys
from collections.abc import Callable

INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
_PAUSES = (0.001, 0.005, 0.02, 0.1, 0.5)
_LONG_PAUSE = 1.0
_TCP_CLOSE = 7
"""tcp_info.tcpi_state of a connection that was reset (linux/tcp_states.h)."""


class HalfClosed:
    """Watches one connection; aborts it when the client turns out to be gone."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, probe: Callable[[], None]) -> bool:
        """Begin by `probe`. False where this system cannot tell, so that the client has to be taken for gone."""
        if sys.platform != "linux" or self._transport.get_extra_info("socket") is None:
            return False
        probe()
        self._look_later()
        return True

    def stop(self) -> None:
        """The connection is lost, or its answer is complete."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        pause = _PAUSES[self._looks] if self._looks < len(_PAUSES) else _LONG_PAUSE
        self._looks += 1
        self._timer = self._loop.call_later(pause, self._look)

    def _look(self) -> None:
        if self._transport.is_closing():
            return
        connection = self._transport.get_extra_info("socket")
        try:
            state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError:
            state = _TCP_CLOSE
        if state == _TCP_CLOSE:
            self._transport.abort()
        else:
            self._look_later()
