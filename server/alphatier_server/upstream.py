"""HTTP to the engines: send a request, read its answer, tell what went wrong in the gateway's words."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from alphatier_server.errors import EngineFailed, EngineTimeout, NoEngine
from alphatier_server.pool import RETRY_AFTER_SECONDS, Replica

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class UpstreamLimits:
    """How long the gateway waits for an engine, in seconds, and how much it takes, in bytes."""

    idle: float = 600.0
    """Longest silence: before the first byte (a long queue or prompt) or between two."""
    response_bytes: int = 256 * 1024 * 1024
    """Largest answer that is not streamed."""


class Upstream:
    """A client for all engines, with one pool of kept-alive connections."""

    def __init__(self, limits: UpstreamLimits, api_key: str | None = None) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=limits.idle)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=True,
            # Proxies and credentials of the environment are meant for other programs.
            trust_env=False,
        )
        self._authorisation = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._limits = limits

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def send(
        self, replica: Replica, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST `body` to the replica and yield its answer's head.

        Leaving the context before the answer was read closes the connection, which makes the engine
        abort the request. Raises NoEngine (not reachable), EngineTimeout or EngineFailed.
        """
        sent = {"content-type": "application/json", **headers, **self._authorisation}
        try:
            async with self._session.post(
                replica.url + path, data=body, headers=sent, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NoEngine(
                f"The engine {replica.name} cannot be reached.", code="no_engine", retry_after=RETRY_AFTER_SECONDS
            ) from error
        except TimeoutError as error:
            raise EngineTimeout(
                f"The engine {replica.name} sent nothing for {self._limits.idle:g} seconds.", code="engine_timeout"
            ) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise EngineFailed(
                f"The engine {replica.name} broke off while it answered.", code="engine_failed"
            ) from error

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body of an answer that is not streamed. Raises EngineFailed when it is too large."""
        body = await response.content.read(self._limits.response_bytes + 1)
        parts = [body]
        while body:
            body = await response.content.read(self._limits.response_bytes + 1)
            parts.append(body)
            if sum(map(len, parts)) > self._limits.response_bytes:
                raise EngineFailed("The engine's answer is too large.", code="engine_failed")
        return b"".join(parts)
