"""Why an engine ended, in one line, from the log of vLLM or of `transformers serve`.

vLLM's processes hand an exception on to one another, so its log ends in one that says only where to look:
"Engine core initialization failed. See root cause above." The last one that says more is the cause. A log is
continued by each start, so it is read from its end.
"""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

LONGEST = 300
_READ_BYTES = 256 * 1024

# "(EngineCore pid=12) ERROR 11-28 14:26:26 [core.py:1510] " before the words of a child process
_PREFIX = re.compile(r"^\(\S+ pid=\d+\) (?:ERROR \S+ \S+ \[\S+\] ?)?")
_EXCEPTION = re.compile(r"^(?:\w+\.)*(?P<name>[A-Z]\w*(?:Error|Exception)): (?P<message>.+)")
_OTHERS = (
    re.compile(r"^ERROR: +(?:\[Errno \d+\] )?(?P<message>error while .+)"),  # uvicorn
    re.compile(r"^(?:\S+: e|E)rror: (?P<message>.+)"),  # argparse, click
)
_POINTS_ELSEWHERE = re.compile(
    r"root cause above|for (the )?root cause|Worker failed with error|^\[Errno \d+\] Broken pipe"
)
_CHILD_KILLED = re.compile(r"Failed core proc\(s\): \{.*: -(?P<signal>\d+)")
_NOT_IMPORTED = re.compile(r"Failed to import from vllm\.\w+: (?P<name>\w+)\(['\"](?P<message>.+)['\"]\)")


def root_cause(log_file: Path, status: int | None = None) -> str:
    """The cause of an engine's end in one line of LONGEST characters at most.

    `status` is the guard's: 128 and the signal's number for an engine that a signal has ended.
    """
    lines = [_PREFIX.sub("", line) for line in _tail(log_file).splitlines()]
    cause = _signal((status or 0) - 128) or next(_causes(lines), "")
    if not cause and any(_EXCEPTION.match(line) and _POINTS_ELSEWHERE.search(line) for line in lines):
        cause = "one of its processes ended without a word, most likely killed for want of memory"
    cause = cause or next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return cause if len(cause) <= LONGEST else f"{cause[: LONGEST - 4]} ..."


def _causes(lines: list[str]) -> Iterator[str]:
    """What ended the engine, the last first; those that only point at another are left out."""
    for number in range(len(lines) - 1, -1, -1):
        if killed := _CHILD_KILLED.search(lines[number]):
            yield _signal(int(killed["signal"]))
        elif found := _EXCEPTION.match(lines[number]):
            if not _POINTS_ELSEWHERE.search(found["message"]):
                yield _exception(found["name"], found["message"], lines[number + 1 :], lines[:number])
        elif other := next((o for pattern in _OTHERS if (o := pattern.match(lines[number]))), None):
            yield other["message"]


def _exception(name: str, message: str, after: list[str], before: list[str]) -> str:
    if name == "ValidationError" and after:  # pydantic's: the fault stands in the next line
        message = after[0].strip().removeprefix("Value error, ").partition(" [type=")[0]
    elif "'_OpNamespace'" in message:  # vLLM goes on without its kernels until it needs the first
        missing = next(filter(None, map(_NOT_IMPORTED.search, reversed(before))), None)
        return f"{missing['name']}: {missing['message']}" if missing else f"{name}: {message}"
    return f"{name}: {message}"


def _signal(number: int) -> str:
    if number <= 0:
        return ""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"it was ended by {name}" + (", most likely for want of memory" if name == "SIGKILL" else "")


def _tail(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _READ_BYTES))
        return log.read().decode("utf-8", "replace")
