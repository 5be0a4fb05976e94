"""`alphatier serve` that tells, on SIGUSR2, how many objects of each kind live in it: leaks show as growth.

    python -m benchmarks.soak.gateway CENSUS_FILE serve --port 0 ...
    python -m benchmarks.soak.gateway CENSUS_FILE asgi gateway.toml     # under plain uvicorn

On SIGUSR1 it writes where it is to a file beside CENSUS_FILE, even when it is busy with one thing. On
`log_pipe.TOGGLE_FULL` its standard error becomes a full disk, and next time what it was. The gateway's code is
untouched; the count is taken in a signal handler and written to CENSUS_FILE.
"""

import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from alphatier_models.cli import main as alphatier
from benchmarks.soak.log_pipe import TOGGLE_FULL

PACKAGES = ("alphatier_server", "uvicorn", "uvloop", "httptools")


def census() -> dict[str, int]:
    """Live objects by class, of the kinds that leak; tasks that are done do not count."""
    gc.collect()
    kinds: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        module = str(kind.__module__)
        if issubclass(kind, asyncio.Task):
            kinds["tasks"] += not thing.done()
        elif module.partition(".")[0] in PACKAGES:
            kinds[f"{module}.{kind.__qualname__}"] += 1
        kinds["objects"] += 1
        if issubclass(kind, asyncio.Task | dict | list | set | tuple):
            kinds[kind.__name__] += 1
    return dict(kinds)


def _toggle_log() -> Callable[[int, FrameType | None], None]:
    waiting = [os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC), os.dup(2)]
    os.set_inheritable(waiting[1], False)

    def toggle(_signal: int, _frame: FrameType | None) -> None:
        os.dup2(waiting[0], 2)
        waiting.reverse()

    return toggle


def main() -> None:
    """Run the command line with the handler installed."""
    file = Path(sys.argv.pop(1))

    def tell(_signal: int, _frame: FrameType | None) -> None:
        part = file.with_suffix(".part")
        part.write_text(json.dumps(census()))
        os.replace(part, file)

    signal.signal(signal.SIGUSR2, tell)
    signal.signal(TOGGLE_FULL, _toggle_log())
    faulthandler.register(signal.SIGUSR1, file=file.with_suffix(".where").open("w"))
    if sys.argv[1] == "asgi":
        os.environ["ALPHATIER_CONFIG"] = sys.argv[2]
        uvicorn.run(
            "alphatier_server:create_app", factory=True, port=0, access_log=False, timeout_graceful_shutdown=20
        )
    else:
        alphatier()


if __name__ == "__main__":
    main()
