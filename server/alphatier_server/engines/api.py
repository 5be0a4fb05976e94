"""One engine's HTTP API, as far as the gateway itself asks it: is it well, what does it serve, load this."""

import orjson

from alphatier_server.errors import EngineError, NoDescriptors
from alphatier_server.settings.replicas import PoolSettings
from alphatier_server.upstream import UpstreamClient, UpstreamError
from alphatier_server.upstream.client import Fetched


class EngineApi:
    """Where an engine is, and the bearer token that it demands; `name` is for messages."""

    def __init__(self, name: str, url: str, key: str | None, client: UpstreamClient) -> None:
        self.name = name
        self.url = url
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._client = client

    @property
    def header_lines(self) -> bytes:
        """What every request to the engine carries, as HTTP/1.1 writes it."""
        return "".join(f"{name}: {value}\r\n" for name, value in self._headers.items()).encode("ascii")

    async def get(self, path: str, seconds: float) -> Fetched:
        """Raises UpstreamError."""
        return await self._client.fetch("GET", self.url + path, headers=self._headers, timeout=seconds)

    async def post(self, path: str, document: dict[str, str], seconds: float) -> tuple[int, str]:
        """Status and text of the answer. Raises EngineError where there is none."""
        body = orjson.dumps(document)
        try:
            answer = await self._client.fetch(
                "POST", self.url + path, headers=self._headers, body=body, timeout=seconds
            )
        except UpstreamError as error:
            raise EngineError(f"engine {self.name} broke off at {path}: {error}. Look into its log.") from error
        return answer.status, answer.body.decode("utf-8", "replace").strip()


class HealthCheck:
    """Asks `GET /health`, and counts how many good or bad answers change the verdict.

    An engine without /health (404, 405, 501) is judged by its answer to other questions.
    """

    def __init__(self, api: EngineApi, settings: PoolSettings) -> None:
        self._api = api
        self._settings = settings
        self._good = self._bad = 0
        self._known = False
        self.healthy = False
        """The verdict so far. Engines begin unhealthy and need one good answer only."""

    async def answers(self) -> bool:
        """Whether the engine says that it is well, asked once."""
        try:
            status = (await self._api.get("/health", self._settings.health_timeout)).status
        except NoDescriptors:  # the gateway's own trouble: nothing was learnt
            return self.healthy
        except UpstreamError:
            return False
        return status < 400 or status in (404, 405, 501)

    def judge(self, good: bool) -> bool:
        """Count one more answer. Returns whether the verdict has changed."""
        self._good, self._bad = (self._good + 1, 0) if good else (0, self._bad + 1)
        before = self.healthy
        if good and (not self._known or self._good >= self._settings.healthy_after):
            self.healthy = self._known = True
        elif self._bad >= self._settings.unhealthy_after:
            self.healthy = False
        return self.healthy != before
