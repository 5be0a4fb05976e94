"""What runs beside a server and ends with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


class Background:
    """Tasks beside a server. The first fault (theirs, or one told to `fail`) ends the server, by `end`."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        if self._fault is None:
            self._fault = fault
            self._end()

    @contextlib.asynccontextmanager
    async def running(self, *coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run them for the length of a block, and let them tidy up at its end. Raises the first fault then."""
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        for task in tasks:
            task.add_done_callback(self._done)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._fault is not None:
            raise self._fault

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.fail(fault)
