"""Waiting for what tells nobody: other tasks' state, and other processes'."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def eventually(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until the condition, which may be a coroutine function, holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        await asyncio.sleep(0.01)
