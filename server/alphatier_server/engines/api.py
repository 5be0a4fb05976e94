"""One engine's HTTP API, as far as the gateway itself asks it: is it well, what does it serve, load this.

Engines by URL have their key from the operator, a vLLM that runs here has one for each start.
"""

import os
import re
from collections.abc import Mapping

import orjson

from alphatier_server.errors import EngineError, NoDescriptors
from alphatier_server.settings.engines import ENGINE_KEY, EngineSettings
from alphatier_server.settings.replicas import PoolSettings
from alphatier_server.upstream import UpstreamClient, UpstreamError
from alphatier_server.upstream.client import Fetched

OWN_VARIABLES = "ALPHATIER_"
"""So begin the names of the gateway's own variables: keys, the URL of its Redis."""


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


class EngineKeys:
    """The keys of engines by URL. `default` is for those without one of their own. Raises EngineError."""

    def __init__(self, default: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._default = default and checked(default, "--engine-api-key (or ALPHATIER_ENGINE_API_KEY)")
        self._environment = environment
        self._variables: set[str] = set()

    def of(self, settings: EngineSettings) -> str | None:
        """The key for this engine, if it has one."""
        variable = settings.api_key_env
        if variable is None:
            return self._default
        self._variables.add(variable)
        if not (key := self._environment.get(variable)):
            raise EngineError(
                f"The environment variable {variable} is not set; it should hold the key of {settings.url}."
            )
        return checked(key, f"the environment variable {variable}")

    def environment(self) -> dict[str, str]:
        """The environment for engines that run here: the gateway's, without its secrets.

        Code that comes with a model runs in the engine, and what it prints is in the engine's log.
        """
        return {
            name: value
            for name, value in self._environment.items()
            if not name.startswith(OWN_VARIABLES) and name not in self._variables
        }


def checked(key: str, source: str) -> str:
    """The key, if an HTTP header can hold it. Raises EngineError, which does not show it."""
    if re.fullmatch(ENGINE_KEY, key) is None:
        raise EngineError(
            f"The engine's key in {source} is not one word of visible ASCII; no HTTP header can hold it. "
            "Give the key alone, without quotes, spaces or line breaks."
        )
    return key
