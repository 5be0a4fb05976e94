"""`/playground`: a page on which one question is asked to several tiers at once, and what was decided of late.

The page is three files without a build step; it asks the gateway as every client does, with the key that is typed
into it. Its policy lets it load and ask nothing but this gateway, and lets no markup run.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content Security Policy, Level 3."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "/playground.css": ("playground.css", "text/css; charset=utf-8"),
    "/playground.js": ("playground.js", "text/javascript; charset=utf-8"),
}

MINUTES = 60
"""That `Recent` remembers."""

Counts = Mapping[tuple[str, ...], float]


class Recent:
    """What a counter counted in the last hour, as `read` tells it now and told it every minute."""

    def __init__(self, read: Callable[[], Counts], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._past: deque[tuple[float, Counts]] = deque(maxlen=MINUTES)
        self.note()

    def note(self) -> None:
        """Remember what there is now."""
        self._past.append((self._clock(), dict(self._read())))

    def since(self) -> tuple[float, dict[tuple[str, ...], int]]:
        """How many seconds it looks back, and what was counted in them."""
        at, before = self._past[0]
        grown = {labels: round(value - before.get(labels, 0.0)) for labels, value in self._read().items()}
        return self._clock() - at, {labels: more for labels, more in grown.items() if more > 0}

    async def watch(self) -> None:
        """Note every minute, for ever."""
        while True:
            await asyncio.sleep(60)
            self.note()


def playground_router() -> APIRouter:
    """The page and its two files; they hold nothing that a key would have to guard."""
    router = APIRouter(include_in_schema=False)
    folder = files("alphatier_server") / "playground"
    for path, (name, kind) in _FILES.items():
        content = (folder / name).read_bytes()
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        router.add_api_route(f"/playground{path}", _file(content, tag, kind), methods=["GET"])
    return router


def _file(content: bytes, tag: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {**_HEADERS, "etag": tag}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return send


def decisions_router(recent: Recent) -> APIRouter:
    """`/playground/decisions`: which tiers answered by which rule, the most frequent first."""
    router = APIRouter(tags=["metrics"])

    @router.get("/playground/decisions", summary="Tier decisions of the last hour")
    async def decisions() -> dict[str, Any]:
        seconds, counted = recent.since()
        found = [
            {"family": family, "tier": tier, "decision": decision, "requests": requests}
            for (family, tier, decision), requests in sorted(counted.items(), key=lambda one: -one[1])
        ]
        return {"seconds": round(seconds, 1), "decisions": found}

    return router
