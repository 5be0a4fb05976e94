"""Background tasks of a server: they end with it, and the first one that fails ends it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


class BackgroundTasks:
    """Some tasks and the first failure among them."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self._on_failure = on_failure
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until `stop`."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._done)
        self._tasks.append(task)
        return task

    async def stop(self) -> None:
        """Cancel all of them and wait until they have tidied up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is not None and self.failure is None:
                self.failure = error
                self._on_failure()


@contextlib.asynccontextmanager
async def background_tasks(on_failure: Callable[[], None]) -> AsyncIterator[BackgroundTasks]:
    """Tasks for the length of a block. A failure is raised when the block ends."""
    tasks = BackgroundTasks(on_failure)
    try:
        yield tasks
    finally:
        await tasks.stop()
    if tasks.failure is not None:
        raise tasks.failure
