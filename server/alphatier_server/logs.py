"""What the process says, on standard error: one JSON line for each message of `logging` and each request.

Standard error may be a full disk, a closed pipe, or a pipe that nobody reads. So lines go into a bounded queue, and
one thread writes them: a line that finds no room there, or that cannot be written, is dropped and counted. Saying
something never raises and never waits. When lines go out again, one of them says how many were lost.

    logs = standard_error()
    RequestLog(logs).write({"event": "request", "status": 200})

Lines carry figures, never a key, and a prompt only where the operator asked for it.
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import orjson

GATHER_SECONDS = 0.05
"""How long lines wait for others, to be written together: a system call for each would cost more than the line."""
FLUSH_SECONDS = 1.0
"""How long the process's end may wait for the log."""
QUEUED_LINES = 20_000
QUEUED_BYTES = 8 * 1024 * 1024
PIPE_BYTES = 4096
"""PIPE_BUF of Linux (pipe(7)): so much goes into a pipe in one piece, also when several workers write to it."""
FILE_BYTES = 64 * 1024
"""What is written at a time to anything but a pipe."""


class LogWriter:
    """Writes whole lines to a file descriptor, in a thread that is started by the first line. For any thread."""

    def __init__(
        self, descriptor: int = 2, *, queued_lines: int = QUEUED_LINES, queued_bytes: int = QUEUED_BYTES
    ) -> None:
        self._descriptor = descriptor
        self._queued_lines = queued_lines
        self._queued_bytes = queued_bytes
        self._piece_bytes = _piece_bytes(descriptor)
        # Reentrant, and the queue as well: a garbage collection in the middle may have something to say too.
        self._lock = threading.RLock()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        """To the thread: None for lines that may wait for others, else what to set once all is written."""
        self._awake = False
        self._started = False
        self._torn = False
        self._untold = 0
        self._dropped = 0
        self._on_drop: Callable[[int], None] = lambda count: None

    def write(self, line: bytes, *, soon: bool = False) -> None:
        """Take a line, which ends with a newline. `soon`: it waits for no others."""
        with self._lock:
            if len(self._lines) >= self._queued_lines or self._bytes + len(line) > self._queued_bytes:
                self._drop(1)
                return
            # A copy: orjson's own bytes stay in the eight kilobytes that they were written into.
            self._lines.append(bytes(memoryview(line)))
            self._bytes += len(line)
            asleep, self._awake = not self._awake, True
            if not self._started:
                self._start()
        if asleep or soon:
            self._wake.put(threading.Event() if soon else None)

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until what was said is written, but not longer than that."""
        if self._started:
            done = threading.Event()
            self._wake.put(done)
            done.wait(seconds)

    def on_drop(self, count: Callable[[int], None]) -> None:
        """Tell `count` how many lines were dropped, those before too. It is called by one thread at a time."""
        with self._lock:
            self._on_drop = count
            if self._dropped:
                count(self._dropped)

    def _start(self) -> None:
        with contextlib.suppress(RuntimeError):  # no thread is to be had now; the next line tries again
            threading.Thread(target=self._run, name="log", daemon=True).start()
            self._started = True

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count
            self._untold += count
            self._on_drop(count)

    # -- the thread

    def _run(self) -> None:
        while True:
            done = self._wake.get()
            if done is None:
                with contextlib.suppress(Empty):
                    done = self._wake.get(timeout=GATHER_SECONDS)
            while lines := self._next():
                if not self._put(b"".join(lines)):
                    self._drop(len(lines))
                elif self._untold:
                    self._tell_lost()
            if done is not None:
                done.set()

    def _next(self) -> list[bytes]:
        """The next lines that go out together."""
        with self._lock:
            lines: list[bytes] = []
            size = 0
            while self._lines and (not lines or size + len(self._lines[0]) <= self._piece_bytes):
                lines.append(self._lines.popleft())
                size += len(lines[-1])
            self._bytes -= size
            self._awake = bool(lines)
            return lines

    def _tell_lost(self) -> None:
        with self._lock:
            lost, self._untold = self._untold, 0
        if not self._put(message_line("warning", f"{lost} log lines before this one were lost", lost=lost)):
            with self._lock:
                self._untold += lost

    def _put(self, data: bytes) -> bool:
        """Write all of it. Returns whether that worked."""
        if self._torn:
            data = b"\n" + data
        begun = False
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
                begun = True
            except BlockingIOError:  # somebody made it so
                select.select((), (self._descriptor,), ())
            except OSError:
                self._torn = self._torn or begun
                return False
        self._torn = False
        return True


class RequestLog:
    """The lines that are no messages: one a request, and what administrators did.

    `requests` False leaves out those of requests.
    """

    def __init__(self, writer: LogWriter | None = None, *, requests: bool = True) -> None:
        self._writer = writer or standard_error()
        self._requests = requests

    def write(self, line: dict[str, Any]) -> None:
        """Take a line's fields, `event` among them ("request" or another); time and level come from here."""
        if self._requests or line["event"] != "request":
            self._writer.write(json_line({"time": now(), "level": "info", **line}))

    def flush(self) -> None:
        """Wait until what was said is written, but not for long."""
        self._writer.flush()


class MessageHandler(logging.Handler):
    """Makes a line of each record."""

    def __init__(self, writer: LogWriter, *, as_json: bool) -> None:
        super().__init__()
        self._writer = writer
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; does not raise."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit
            message = f"{record.msg} {record.args}"
        trace = _traceback(record)
        if self._as_json:
            more = {"traceback": trace} if trace else {}
            line = message_line(record.levelname.lower(), message, logger=record.name, **more)
        else:
            line = "".join(f"{text}\n" for text in (message, trace) if text).encode("utf-8", "backslashreplace")
        self._writer.write(line, soon=True)


@functools.cache
def standard_error() -> LogWriter:
    """The one writer for this process's standard error; the process's end waits a moment for it."""
    writer = LogWriter(2)
    atexit.register(writer.flush)
    return writer


def is_json(form: str) -> bool:
    """Whether messages are JSON: as the settings say, else unless a person reads them."""
    return form == "json" or (form == "auto" and not os.isatty(2))


def message_line(level: str, message: str, **more: Any) -> bytes:
    """The line for a message to the operator."""
    return json_line({"time": now(), "level": level, "event": "message", "message": message, **more})


def json_line(fields: dict[str, Any]) -> bytes:
    """The fields as a line of JSON, whatever they are."""
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # text that is no Unicode
        text = json.dumps(fields, default=str, skipkeys=True, ensure_ascii=False)
        return text.encode("utf-8", "replace") + b"\n"


def now() -> str:
    """The time as RFC 3339 has it: UTC, to the millisecond."""
    second, millisecond = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_to_the_second(second)}.{millisecond:03d}Z"


@functools.lru_cache(1)
def _to_the_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _piece_bytes(descriptor: int) -> int:
    try:
        return PIPE_BYTES if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else FILE_BYTES
    except OSError:
        return PIPE_BYTES


def _traceback(record: logging.LogRecord) -> str | None:
    formatter = logging.Formatter()
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return formatter.formatStack(record.stack_info) if record.stack_info else None
