"""Active health checks of one engine: GET /health, and how many good or bad answers change the verdict."""

from collections.abc import Mapping

from alphatier_server.errors import NoDescriptors
from alphatier_server.settings.replicas import PoolSettings
from alphatier_server.upstream import UpstreamClient, UpstreamError


class HealthCheck:
    """Asks one engine. An engine without /health (404, 405, 501) is judged by its answer to other questions."""

    def __init__(self, url: str, headers: Mapping[str, str], client: UpstreamClient, settings: PoolSettings) -> None:
        self._url = url + "/health"
        self._headers = headers
        self._client = client
        self._settings = settings
        self._good = self._bad = 0
        self.healthy = False
        """The verdict so far. Engines begin unhealthy and need one good answer only."""
        self._known = False

    async def answers(self) -> bool:
        """Whether the engine says that it is well, asked once."""
        try:
            answer = await self._client.fetch(
                "GET", self._url, headers=self._headers, timeout=self._settings.health_timeout
            )
        except NoDescriptors:  # the gateway's own trouble: nothing was learnt
            return self.healthy
        except UpstreamError:
            return False
        return answer.status < 400 or answer.status in (404, 405, 501)

    def judge(self, good: bool) -> bool:
        """Count one more answer. Returns whether the verdict has changed."""
        self._good, self._bad = (self._good + 1, 0) if good else (0, self._bad + 1)
        before = self.healthy
        if good and (not self._known or self._good >= self._settings.healthy_after):
            self.healthy = self._known = True
        elif self._bad >= self._settings.unhealthy_after:
            self.healthy = False
        return self.healthy != before
