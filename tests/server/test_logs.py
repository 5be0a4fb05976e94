"""The log's lines: whole, in order, whatever the other end does; what is lost is counted, and nobody waits for it."""

import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from alphatier_server.logs import PIPE_BYTES, LogWriter, MessageHandler, RequestLog, json_line


class Pipe:
    """A pipe that is read only when the test says so."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self._writers: list[LogWriter] = []

    def writer(self, **limits: int) -> LogWriter:
        self._writers.append(LogWriter(self.writing, **limits))
        return self._writers[-1]

    def read(self, size: int = PIPE_BYTES) -> bytes:
        return os.read(self.reading, size)

    def read_until(self, words: bytes) -> list[dict[str, object]]:
        """All lines up to one that holds `words`."""
        text = b""
        while words not in text or not text.endswith(b"\n"):
            text += self.read()
        return [orjson.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        os.close(self.reading)
        for writer in self._writers:  # else one might write to whatever has the number next
            writer.flush()
        os.close(self.writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.mark.parametrize("size", [1, 500, 4000, 9000])
def test_lines_go_out_whole_and_in_order(tmp_path: Path, size: int) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = RequestLog(LogWriter(file.fileno()))
        for number in range(100):
            log.write({"event": "request", "number": number, "text": "x" * size})
        log.flush()
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["number"] for line in lines] == list(range(100))


@pytest.mark.parametrize("size", [500, 1500, 4000])
def test_several_processes_may_share_a_pipe(pipe: Pipe, size: int) -> None:
    writers = [pipe.writer() for _ in range(4)]
    for number in range(100):
        for name, writer in enumerate(writers):
            writer.write(json_line({"writer": name, "number": number, "text": "x" * size}))
    text = b""
    while text.count(b"\n") < 400:
        text += pipe.read()
    lines = [orjson.loads(line) for line in text.splitlines()]
    for name in range(4):
        assert [line["number"] for line in lines if line["writer"] == name] == list(range(100))


def test_a_request_line_begins_with_time_and_level(pipe: Pipe) -> None:
    RequestLog(pipe.writer()).write({"event": "request", "status": 200})
    (line,) = pipe.read_until(b"status")
    assert list(line) == ["time", "level", "event", "status"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
    assert (line["level"], line["event"]) == ("info", "request")


def test_without_requests_other_events_are_still_written(pipe: Pipe) -> None:
    log = RequestLog(pipe.writer(), requests=False)
    log.write({"event": "request", "status": 200})
    log.write({"event": "admin", "action": "add"})
    assert [line["event"] for line in pipe.read_until(b"admin")] == ["admin"]


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe: Pipe) -> None:
    writer = pipe.writer(queued_lines=50)
    dropped: list[int] = []
    writer.on_drop(dropped.append)
    for number in range(1000):
        writer.write(json_line({"number": number, "text": "x" * 1000}))
    writer.flush(0.05)
    assert sum(dropped) >= 1000 - 50 - 64 - 8  # the queue, the pipe, what the thread has in hand
    lines = pipe.read_until(b'"lost"')
    writer.write(json_line({"number": -1}))
    lines += pipe.read_until(b'"number":-1')
    numbers = [line["number"] for line in lines if "number" in line]
    assert numbers == [*range(len(numbers) - 1), -1]
    (note,) = [line for line in lines if "lost" in line]
    assert note["lost"] == sum(dropped) == 1000 - len(numbers) + 1
    assert note["level"] == "warning"


def test_many_bytes_are_too_many_too(pipe: Pipe) -> None:
    writer = pipe.writer(queued_bytes=100_000)
    dropped: list[int] = []
    writer.on_drop(dropped.append)
    for _ in range(10):
        writer.write(b"x" * 60_000 + b"\n")
    assert 6 <= len(dropped) <= 9


_MEMORY_OF_A_STUCK_LOG = """
import os, psutil
from alphatier_server.logs import QUEUED_BYTES, LogWriter, RequestLog
log = RequestLog(LogWriter(os.pipe()[1]))
own = psutil.Process()
before = own.memory_info().rss
for number in range(40_000):
    log.write({"event": "request", "number": number, "text": "x" * 500})
print((own.memory_info().rss - before) / QUEUED_BYTES)
"""


def test_lines_that_wait_take_little_more_memory_than_they_are_long() -> None:
    """In a process of its own: what an allocator has given back shows in no other figure than the resident memory."""
    took = subprocess.run([sys.executable, "-c", _MEMORY_OF_A_STUCK_LOG], capture_output=True, text=True, check=True)
    assert float(took.stdout) < 2.5


@pytest.mark.parametrize("fault", ["full", "closed", "nobody"])
def test_what_cannot_be_written_is_counted(fault: str) -> None:
    reading, descriptor = os.pipe()
    os.close(reading)
    if fault == "full":
        os.close(descriptor)
        descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(descriptor)
    if fault == "closed":
        os.close(descriptor)
    dropped: list[int] = []
    for _ in range(10):
        writer.write(b"{}\n")
    writer.flush()
    writer.on_drop(dropped.append)
    assert sum(dropped) == 10
    if fault != "closed":
        os.close(descriptor)


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writing, fcntl.F_SETFL, fcntl.fcntl(pipe.writing, fcntl.F_GETFL) | os.O_NONBLOCK)
    writer = pipe.writer()
    for number in range(300):
        writer.write(json_line({"number": number, "text": "x" * 1000}))
    writer.flush(0.05)
    lines = pipe.read_until(b'"number":299')
    assert [line["number"] for line in lines] == list(range(300))


def test_it_may_be_used_from_many_threads(pipe: Pipe) -> None:
    writer = pipe.writer()

    def say() -> None:
        for _ in range(200):
            writer.write(b'{"a":1}\n')

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    text = b""
    while len(text) < 8 * 200 * len(b'{"a":1}\n'):
        text += pipe.read()
    assert text == b'{"a":1}\n' * 1600


@pytest.mark.parametrize("value", ["\ud800", object(), {"a": {1, 2}}, float("nan")])
def test_no_value_keeps_a_line_from_being_written(pipe: Pipe, value: object) -> None:
    RequestLog(pipe.writer()).write({"event": "request", "value": value})
    (line,) = pipe.read_until(b"value")
    assert "value" in line


@pytest.fixture
def logger(pipe: Pipe) -> Iterator[logging.Logger]:
    made = logging.getLogger("test_logs")
    made.propagate = False
    handler = MessageHandler(pipe.writer(), as_json=True)
    made.addHandler(handler)
    yield made
    made.removeHandler(handler)


def test_a_message_with_an_exception_is_one_line(pipe: Pipe, logger: logging.Logger) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it failed: %s", "why")
    (line,) = pipe.read_until(b"it failed")
    assert (line["event"], line["level"], line["message"]) == ("message", "error", "it failed: why")
    assert "ValueError: two\nlines" in str(line["traceback"])


def test_a_message_whose_arguments_do_not_fit_is_written_all_the_same(pipe: Pipe) -> None:
    handler = MessageHandler(pipe.writer(), as_json=True)
    handler.handle(logging.makeLogRecord({"msg": "%d things", "args": ("no number",)}))
    (line,) = pipe.read_until(b"things")
    assert "no number" in str(line["message"])


def test_on_a_terminal_messages_are_text() -> None:
    ours, theirs = os.openpty()
    handler = MessageHandler(LogWriter(theirs), as_json=False)
    handler.emit(logging.makeLogRecord({"msg": "alphatier serves tiny"}))
    assert os.read(ours, 100) == b"alphatier serves tiny\r\n"
    os.close(ours)
    os.close(theirs)
