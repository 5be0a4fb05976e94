"""The part of a gateway that answers requests: one process has it, alone or as one of several workers."""

from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from alphatier_models import Family
from alphatier_server.accelerator.bounded import bounded_protocol
from alphatier_server.accelerator.protocol import accelerated_protocol
from alphatier_server.app import Parts, app_settings, assemble, operators_app, request_log
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.background import BackgroundTasks
from alphatier_server.process.console import announce
from alphatier_server.process.server import GatewayServer
from alphatier_server.process.tls import certificate_of
from alphatier_server.replicas.pool import Pool, Replica
from alphatier_server.settings.gateway import GatewayConfig

Administer = Callable[[str, dict[str, Any]], Awaitable[tuple[int, Any]]]


class DataPlane:
    """The application and its server, made before anything listens so that faults are told early."""

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
        log = request_log(config.log, metrics)
        self._settings = app_settings(config, config.served_hosts())
        self.parts = Parts(families, pool, metrics, access, self.state, log, administer)
        application = assemble(self._settings, self.parts)
        self.client_limits = clients = self._settings.clients
        # CORS is a middleware's work, which only sees what goes through ASGI.
        protocol = (
            bounded_protocol(clients)
            if self._settings.cors_origins
            else accelerated_protocol(application.gateway, application.dialects, clients)
        )
        self.server = GatewayServer(self._server_config(config, application.app, protocol), self.state)

    def operators_app(self, in_flight: Callable[[Replica], int] = lambda replica: replica.in_flight) -> Any:
        """The pages of the second port."""
        return operators_app(self.parts, self._settings, in_flight)

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

    def _server_config(self, config: GatewayConfig, app: Any, protocol: Any) -> uvicorn.Config:
        certificate = self._certificate
        return uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(self._settings.clients.keep_alive),
            timeout_graceful_shutdown=config.limits.drain_seconds or None,  # type: ignore[arg-type] # any number
            lifespan="on",
            ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
        )
