"""The request log: one JSON line a request, on standard error.

Lines are gathered and written together, at the latest a tenth of a second later: a system call and a
pass through `logging` for each would cost more than the rest of the bookkeeping. They carry figures,
never a key, and a prompt only where the operator asked for it.
"""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

FLUSH_SECONDS = 0.1
_MANY = 256
_PIPE_BYTES = 4096


class RequestLog:
    """Writes lines to `stream` (binary; standard error by default). `enabled` False writes none."""

    def __init__(self, stream: BinaryIO | None = None, *, enabled: bool = True) -> None:
        self._stream = stream
        self._enabled = enabled
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: dict[str, Any]) -> None:
        """Take a line; it is written soon."""
        if not self._enabled:
            return
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= _MANY:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        stream = self._stream or sys.stderr.buffer
        for piece in _pieces(lines):
            stream.write(piece)
            stream.flush()


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines, in writes that a pipe takes in one go: several workers may write to the same one (pipe(7))."""
    start = size = 0
    for number, line in enumerate(lines):
        if size and size + len(line) > _PIPE_BYTES:
            yield b"".join(lines[start:number])
            start, size = number, 0
        size += len(line)
    yield b"".join(lines[start:])
