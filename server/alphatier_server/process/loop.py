"""The event loop that every process of the gateway runs on."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

GEN_0_THRESHOLD = 50_000
"""Allocations between two looks of the garbage collector; Python's 700 are a few requests."""

Result = TypeVar("Result")


def run_loop(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run it on the fastest loop there is, with a garbage collector that looks seldom."""
    gc.set_threshold(GEN_0_THRESHOLD, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def freeze() -> None:
    """What is loaded now lives as long as the process; the collector need not look at it again."""
    gc.collect()
    gc.freeze()
