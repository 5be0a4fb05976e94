"""The generating APIs of one process: from settings to endpoints.

Imports no FastAPI: a process answers before that is loaded (`serving.late_pages`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alphatier_models import Family
from alphatier_server.accelerator.bounded import ClientLimits
from alphatier_server.accelerator.protocol import Exchanges
from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.messages import CountTokensDialect, MessagesDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.gateway.handle import Endpoint, Gateway
from alphatier_server.gateway.record import Recorder
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access
from alphatier_server.logs import RequestLog
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.upstream import UpstreamClient, UpstreamLimits

DIALECTS: Sequence[Dialect] = (
    ChatDialect(),
    TextDialect(),
    ResponsesDialect(),
    MessagesDialect(),
    CountTokensDialect(),
)
"""The APIs that the gateway speaks."""


@dataclass
class GatewaySettings:
    """What one process's endpoints need to know."""

    families: Mapping[str, Family]
    clients: ClientLimits = field(default_factory=ClientLimits)
    limits: UpstreamLimits = field(default_factory=UpstreamLimits)
    json_depth: int = 64
    keep_alive: float = 15.0
    """A stream that is silent for so many seconds gets a comment; 0: none."""
    media_hosts: tuple[str, ...] = ()
    log_prompts: bool = False


class Api:
    """The endpoints and what they share. `close` at the end."""

    def __init__(
        self,
        settings: GatewaySettings,
        pool: Pool,
        metrics: Metrics,
        access: Access,
        state: GatewayState,
        *,
        upstream: UpstreamClient | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self._upstream = upstream or UpstreamClient(settings.limits)
        pool.on_gone(self._upstream.forget)
        self._log = request_log or RequestLog()
        gateway = Gateway(
            settings.families,
            pool,
            Recorder(metrics, self._log),
            self._upstream,
            access,
            state,
            settings.json_depth,
            settings.keep_alive,
            settings.media_hosts,
            settings.log_prompts,
        )
        endpoints = {dialect.path.encode(): Endpoint(gateway, dialect) for dialect in DIALECTS}
        self.exchanges = Exchanges(endpoints, settings.clients)
        """For the protocol: it gives POSTs to these paths to their endpoints."""

    def close(self) -> None:
        """Close connections to engines, and write what is left of the request log."""
        self._upstream.close()
        self._log.flush()
