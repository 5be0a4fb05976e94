"""The part of a gateway that answers requests: one process has it, alone or as one of several workers."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import uvicorn

from alphatier_models import Family
from alphatier_server.accelerator.bounded import ClientLimits
from alphatier_server.accelerator.protocol import STATE_KEY, GatewayProtocol
from alphatier_server.api import Api, GatewaySettings
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access
from alphatier_server.logs import RequestLog, standard_error
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.background import BackgroundTasks
from alphatier_server.process.console import announce
from alphatier_server.process.late_pages import LatePages
from alphatier_server.process.server import GatewayServer
from alphatier_server.process.tls import certificate_of
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.gateway import GatewayConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

Administer = Callable[[str, dict[str, Any]], Awaitable[tuple[int, Any]]]


class DataPlane:
    """The endpoints, the pages and their server, made before anything listens so that faults are told early."""

    def __init__(
        self,
        config: GatewayConfig,
        families: dict[str, Family],
        pool: Pool,
        metrics: Metrics,
        access: Access,
        *,
        administer: Administer,
    ) -> None:
        self.state = GatewayState()
        self.access = access
        self._certificate = certificate_of(config.listen)
        logs = standard_error()
        logs.on_drop(metrics.log_lines_dropped.inc)
        api = Api(
            gateway_settings(config, families),
            pool,
            metrics,
            access,
            self.state,
            request_log=RequestLog(logs, requests=config.log.level in ("debug", "info")),
        )

        def pages() -> "FastAPI":
            from alphatier_server.app import create_pages

            private = config.listen.admin_port is None
            return create_pages(families, pool, metrics, access, self.state, administer=administer, private=private)

        app = LatePages({STATE_KEY: api.exchanges}, pages, api.close)
        self.server = GatewayServer(self._server_config(config, app), self.state)

    def end(self) -> None:
        """Drain and end, because nothing is left to serve."""
        if not self.state.draining:
            self.server.end(0)

    def start_background(self, tasks: BackgroundTasks) -> None:
        """Start what keeps keys, limits and the certificate fresh."""
        tasks.start(self.access.watch())
        if self._certificate is not None:
            tasks.start(self._certificate.watch(announce))

    def reload_certificate(self) -> None:
        """Read it again now."""
        if self._certificate is not None:
            self._certificate.reload_and_announce(announce)

    def _server_config(self, config: GatewayConfig, app: Any) -> uvicorn.Config:
        certificate = self._certificate
        return uvicorn.Config(
            app,
            http=GatewayProtocol,
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=config.limits.drain_seconds or None,  # type: ignore[arg-type] # any number
            lifespan="on",
            ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
        )


def gateway_settings(config: GatewayConfig, families: dict[str, Family]) -> GatewaySettings:
    """What the endpoints need of the settings."""
    limits = config.limits
    return GatewaySettings(
        families,
        ClientLimits(limits.max_body_bytes, limits.max_header_bytes, limits.client_timeout),
        limits.upstream(),
        limits.max_json_depth,
        limits.keepalive_seconds,
        config.access.allowed_media_hosts,
        config.log.prompts,
    )
