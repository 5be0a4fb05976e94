"""An ASGI application whose pages are loaded late.

FastAPI takes longer to import than all the rest, and generating requests do not need it. So it is imported
in a thread, a moment after the process listens or when somebody asks for a page, whichever comes first.
"""

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

START_AFTER_SECONDS = 0.5
_SWITCH_SECONDS = 0.0005


class LatePages:
    """`state` is the lifespan state for the protocol; `load` makes the application; `close` is called at the end."""

    def __init__(self, state: dict[str, Any], load: Callable[[], ASGIApp], close: Callable[[], None]) -> None:
        self._state = state
        self._load = load
        self._close = close
        self._pages: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        pages = await asyncio.shield(self._loading())
        await pages(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"].update(self._state)
        await send({"type": "lifespan.startup.complete"})
        asyncio.get_running_loop().call_later(START_AFTER_SECONDS, self._loading)
        await receive()
        self._close()
        await send({"type": "lifespan.shutdown.complete"})

    def _loading(self) -> "asyncio.Future[ASGIApp]":
        if self._pages is None:
            self._pages = asyncio.ensure_future(asyncio.to_thread(self._load_gently))
        return self._pages

    def _load_gently(self) -> ASGIApp:
        with _short_turns():
            pages = self._load()
        gc.freeze()  # they live as long as the process; the collector need not look at them
        return pages


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let the loop's thread have its turn soon: by default a thread that imports keeps the interpreter for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
