"""The sixth step: the engine's bytes become the client's.

A stream is handed on piece by piece in the callback in which it comes, at the client's pace; what goes wrong on
either side is raised in the request's own task. A stream is never silent for longer than the operator allows, also
before the engine has said anything.
"""

import asyncio
from collections.abc import Callable

from alphatier_server.dialects.dialect import Dialect, Relay
from alphatier_server.errors import EngineFailed
from alphatier_server.gateway.request import ResponseWriter
from alphatier_server.upstream.connection import Connection

Tap = Callable[[bytes], None]
"""Takes what the client is sent."""


class SentError(EngineFailed):
    """The engine's own error event is on its way to the client; there is nothing more to send."""


async def relay_stream(
    connection: Connection, relay: Relay, response: ResponseWriter, tap: Tap | None = None
) -> bytes:
    """Hand the engine's events to the client, all but the last bytes, which are returned; `tap` gets all of them.

    The connection is given back, or closed. Raises UpstreamError, EngineFailed or SentError.
    """
    last = b""

    def sink(data: bytes) -> bool:
        nonlocal last
        out = relay.feed(data)
        if tap is not None:
            tap(out)
        if relay.done:
            last = out
            return True
        if out:
            response.write(out)
        return False

    ended: asyncio.Future[None] | None = None
    response.follow_pace(connection)
    try:
        ended = connection.relay(sink)
        response.send_head()
        await ended
        end = relay.finish()
        last += end
        if tap is not None:
            tap(end)
    except BaseException:
        connection.abort()
        raise
    finally:
        response.follow_pace(None)
        ended = None  # the traceback of its error holds this frame: a circle that only the collector would end
    connection.release()
    if relay.observed.error is not None:
        response.write(last)
        raise SentError("The engine ended its stream with an error.", code="engine_failed")
    return last


class KeepAlive:
    """Sees to it that a stream says something every `seconds`; `start` begins the answer where nobody has yet."""

    __slots__ = ("_dialect", "_loop", "_pause", "_response", "_start", "_timer")

    def __init__(self, dialect: Dialect, response: ResponseWriter, seconds: float, start: Callable[[], None]) -> None:
        self._dialect = dialect
        self._response = response
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._pause = seconds / 2
        response.wrote = True  # as if it had: the first look only begins to wait
        self._timer = self._loop.call_later(self._pause, self._look)

    def stop(self) -> None:
        """The stream is over."""
        self._timer.cancel()

    def _look(self) -> None:
        """Runs now and then, not for each piece: has the stream been silent since the last time?"""
        response = self._response
        if not response.wrote:
            if not response.started:
                self._start()
            response.write(self._dialect.keep_alive)
        response.wrote = False
        self._timer = self._loop.call_later(self._pause, self._look)
