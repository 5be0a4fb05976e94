"""Messages between the parent process and one worker: lines of JSON over a pair of sockets.

Both ends send without waiting. The end of the stream means that the other process is gone.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson

LONGEST_MESSAGE_BYTES = 64 * 1024 * 1024
"""A message carries at most all families; past this, something is wrong."""


class Link:
    """One end. Made inside a running loop by `open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "Link":
        """A link over one end of a `socket.socketpair`, which it then owns."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end, limit=LONGEST_MESSAGE_BYTES))

    def send(self, message: dict[str, Any]) -> None:
        """Send it soon; a message to a process that is gone is dropped."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """The other end's messages, until it is gone."""
        with contextlib.suppress(ConnectionError, ValueError):
            async for line in self._reader:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)

    def close(self) -> None:
        self._writer.close()
