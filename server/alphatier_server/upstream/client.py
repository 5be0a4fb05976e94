"""Requests to engines: which connection takes them, and how their bytes look."""

import asyncio
import errno
import ssl
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alphatier_server.errors import Broken, NoDescriptors, TimedOut, Unreachable
from alphatier_server.settings.upstream import UpstreamLimits
from alphatier_server.upstream.connection import Answer, Connection


@dataclass(frozen=True)
class Fetched:
    """The answer to an odd job. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class UpstreamClient:
    """A client for all engines, with kept-alive connections to each."""

    def __init__(self, limits: UpstreamLimits, ca_file: Path | None = None) -> None:
        """`ca_file` are the CAs of engines by https; without it the system's, or those of SSL_CERT_FILE."""
        self._limits = limits
        self._ca_file = ca_file
        self._origins: dict[str, _Origin] = {}

    def close(self) -> None:
        """Close all connections."""
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()

    def keep(self, urls: Collection[str]) -> None:
        """Close the unused connections to all other engines."""
        for url in [url for url in self._origins if url not in urls]:
            self.forget(url)

    def forget(self, url: str) -> None:
        """Close the unused connections to an engine that is gone."""
        origin = self._origins.pop(url, None)
        if origin is not None:
            origin.close()

    def post(
        self, url: str, path: str, body: bytes, headers: bytes, *, method: str = "POST", fresh: bool = False
    ) -> Coroutine[Any, Any, Answer]:
        """Send JSON to `path` of the engine at `url`. `headers` are whole lines, each with its CR LF.

        `fresh` takes a new connection. The caller must call `release` or `abort` on the answer's connection. When
        this is cancelled, the connection is closed. Raises Unreachable, NoDescriptors, Broken or TimedOut.
        """
        origin = self._origins.get(url) or self._origin(url)
        request = b"".join((origin.head(method, path), b"%d\r\n" % len(body), headers, b"\r\n", body))
        return origin.ask(request, fresh=fresh)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float,  # noqa: ASYNC109 - as every other client calls it
    ) -> Fetched:
        """One request from beginning to end, within `timeout` seconds. Raises UpstreamError."""
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"host": parts.netloc, "content-length": str(len(body)), "accept-encoding": "identity"}
        if body:
            lines["content-type"] = "application/json"
        lines |= {name.lower(): value for name, value in (headers or {}).items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")
        request = f"{method} {target} HTTP/1.1\r\n".encode("ascii") + head + b"\r\n" + body
        try:
            async with asyncio.timeout(timeout):
                return await self._fetched(base, request)
        except TimeoutError as error:
            raise TimedOut(timeout, answered=False) from error

    async def _fetched(self, base: str, request: bytes) -> Fetched:
        origin = self._origins.get(base) or self._origin(base)
        try:
            answer = await origin.ask(request)
        except Broken as error:
            if not error.reused or error.answered:
                raise
            answer = await origin.ask(request, fresh=True)
        parts = [answer.body or b""]

        def take(piece: bytes) -> bool:
            parts.append(piece)
            return False

        try:
            if answer.body is None:
                await answer.connection.relay(take)
            answer.connection.release()
        except BaseException:
            answer.connection.abort()
            raise
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers.items()}
        return Fetched(answer.status, headers, b"".join(parts))

    def _origin(self, url: str) -> "_Origin":
        origin = self._origins[url] = _Origin(url, self._limits, self._ca_file)
        return origin


class _Origin:
    """One engine's address, and the connections to it that nobody uses at the moment."""

    def __init__(self, url: str, limits: UpstreamLimits, ca_file: Path | None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._limits = limits
        self._free: list[Connection] = []
        self._heads: dict[tuple[str, str], bytes] = {}

    def head(self, method: str, path: str) -> bytes:
        """The first lines of a request, up to the value of `content-length`."""
        head = self._heads.get((method, path))
        if head is None:
            head = (
                f"{method} {self._prefix}{path} HTTP/1.1\r\nhost: {self._authority}\r\n"
                "content-type: application/json\r\naccept-encoding: identity\r\ncontent-length: "
            ).encode("latin-1")
            if "?" not in path:  # there are any number of those
                self._heads[method, path] = head
        return head

    async def ask(self, request: bytes, *, fresh: bool = False) -> Answer:
        """The answer to the request. Raises UpstreamError."""
        connection = (None if fresh else self._take()) or await self._connect()
        try:
            return await connection.ask(request)
        except BaseException:  # also when the client has left: the engine must notice
            connection.abort()
            raise

    def close(self) -> None:
        """Close what is not in use."""
        for connection in self._free:
            connection.abort()
        self._free.clear()

    def _take(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.fresh:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._limits, self._give_back),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except TimeoutError as error:
            raise Unreachable(f"no connection within {self._limits.connect:g} seconds") from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise NoDescriptors(str(error)) from error
            raise Unreachable(str(error)) from error
        return connection

    def _give_back(self, connection: Connection, reusable: bool) -> None:
        if reusable and len(self._free) < self._limits.kept_connections:
            self._free.append(connection)
        elif reusable:
            connection.abort()
        elif connection in self._free:
            self._free.remove(connection)
