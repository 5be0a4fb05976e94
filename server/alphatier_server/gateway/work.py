"""Coroutines whose steps run in the very callbacks that let them go on.

A task puts each of its steps into the loop's queue: for a request that waits once, that is three more turns of
the loop and a dozen objects. A `Work` waits for a `Reply`, and goes on inside `Reply.set_result`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

_AT_ONCE = 16
_BESIDE_STREAMS = 4


class Reply(Generic[Result]):
    """What one `Work` waits for. Whoever sets it runs the work's next step: set it last."""

    __slots__ = ("_done", "_error", "_result", "_work")

    def __init__(self) -> None:
        self._done = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._work: Work | None = None

    def done(self) -> bool:
        """Whether it was set."""
        return self._done

    def set_result(self, result: Result) -> None:
        """The work gets `result`."""
        self._done = True
        self._result = result
        if self._work is not None:
            self._work.step()

    def set_exception(self, error: BaseException) -> None:
        """`error` is raised in the work."""
        self._done = True
        self._error = error
        if self._work is not None:
            self._work.step()

    def __await__(self) -> Generator["Reply[Result]", None, Result]:
        if not self._done:
            yield self
        error, self._error, self._work = self._error, None, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: a circle that only the collector would end
        return self._result  # type: ignore[return-value]

    def wake(self, work: "Work") -> None:
        """Let `work` go on when it is set."""
        self._work = work


class Work:
    """Runs a coroutine that awaits replies, asyncio's futures and tasks, and coroutines of the same kind.

    It is no task: what asks for the current one, as `asyncio.timeout` does, must run `in_task`.
    The coroutine must not raise; `ended` is called when it returns.
    """

    __slots__ = ("_coroutine", "_ended", "_interruption", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], ended: Callable[["Work"], object] | None = None) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._waits_for: Reply[Any] | asyncio.Future[Any] | None = None
        self._interruption: BaseException | None = None

    def step(self, error: BaseException | None = None) -> None:
        """Run on to the next wait: to begin with, and when what it waits for is there."""
        self._waits_for = None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except BaseException as end:
            if self._ended is not None:
                self._ended(self)
            if isinstance(end, StopIteration):
                return
            raise
        self._waits_for = awaited
        if type(awaited) is Reply:
            awaited.wake(self)
        else:
            awaited._asyncio_future_blocking = False  # a future's sign that it was awaited, not yielded
            awaited.add_done_callback(self._wake)
        if self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            asyncio.get_running_loop().call_soon(self.interrupt, interruption)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` where the work waits; what has just come is taken first, so that nothing is lost."""
        awaited = self._waits_for
        if awaited is None or awaited.done():
            self._interruption = error
        else:
            self.step(error)

    def cancel(self, msg: object = None) -> None:
        """Interrupt it soon, as a task is cancelled."""
        asyncio.get_running_loop().call_soon(self.interrupt, asyncio.CancelledError(msg))

    def _wake(self, future: "asyncio.Future[Any]") -> None:
        if future is self._waits_for:
            self.step()


class WorkQueue:
    """Starts works, a few in each turn of the loop.

    Not in the callback that brings them: what runs in one go for several requests finds its code and data in the
    processor's caches. Not all at once: answers that come meanwhile need not wait for the whole of a burst,
    least of all the pieces of streams.
    """

    __slots__ = ("_running", "_waiting", "streams")

    def __init__(self) -> None:
        self.streams = 0
        """How many streams are under way; whoever begins and ends one counts it here."""
        self._waiting: deque[Work] = deque()
        self._running = False

    def start(self, work: Work) -> None:
        """Let `work` take its first step soon."""
        self._waiting.append(work)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        waiting = self._waiting
        count = min(len(waiting), _BESIDE_STREAMS if self.streams else _AT_ONCE)
        if len(waiting) > count:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._running = False
        for _ in range(count):
            waiting.popleft().step()


async def in_task(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that needs a task from a `Work`. Ends it when the work is interrupted."""
    task = asyncio.get_running_loop().create_task(coroutine)
    try:
        return await task
    except BaseException:
        task.cancel()
        raise


async def in_work(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that awaits replies from a task. Ends it when the task is cancelled."""
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    work = Work(_carry(coroutine, future))
    work.step()
    try:
        return await future
    except asyncio.CancelledError as error:
        work.interrupt(error)
        raise


async def _carry(coroutine: Coroutine[Any, Any, Result], future: "asyncio.Future[Result]") -> None:
    try:
        result = await coroutine
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
