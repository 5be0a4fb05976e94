"""The part of a gateway that answers requests: one process has it, alone or as one of several workers."""

from collections.abc import Coroutine
from typing import Any

import uvicorn

from alphatier_models import Family
from alphatier_server.accelerator.protocol import accelerated_protocol
from alphatier_server.app import Application, AppSettings, Parts, assemble
from alphatier_server.engines.control import Administer
from alphatier_server.keys.access import Access
from alphatier_server.logs import RequestLog, standard_error
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.messages import announce
from alphatier_server.process.server import GatewayServer, server_config
from alphatier_server.process.tls import Certificate
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.gateway import GatewayConfig


def parts_of(
    config: GatewayConfig,
    families: dict[str, Family],
    pool: Pool,
    metrics: Metrics,
    access: Access,
    administer: Administer,
) -> Parts:
    """One process's parts; its log is standard error, and lines that are lost there are counted."""
    logs = standard_error()
    logs.on_drop(metrics.log_lines_dropped.inc)
    log = RequestLog(logs, requests=config.log.level in ("debug", "info"))
    return Parts(families, pool, metrics, access, log=log, administer=administer)


class DataPlane:
    """The application and its server, made before anything listens so that faults are told early."""

    def __init__(
        self, config: GatewayConfig, settings: AppSettings, parts: Parts, certificate: Certificate | None
    ) -> None:
        self._certificate = certificate
        self._state = parts.state
        application = assemble(settings, parts)
        self.server = GatewayServer(self._server_config(config, settings, application), parts.state)

    def end(self) -> None:
        """Drain and end, because nothing is left to serve."""
        if not self._state.draining:
            self.server.end(0)

    def watches(self) -> list[Coroutine[Any, Any, None]]:
        """What keeps the certificate fresh."""
        return [self._certificate.watch(announce)] if self._certificate is not None else []

    def reload_certificate(self) -> None:
        """Read it again now."""
        if self._certificate is not None:
            self._certificate.reload_and_announce(announce)

    def _server_config(
        self, config: GatewayConfig, settings: AppSettings, application: Application
    ) -> uvicorn.Config:
        certificate = self._certificate
        # CORS is a middleware's work, which only sees what goes through ASGI.
        accelerated = (
            None
            if settings.cors_origins
            else accelerated_protocol(application.gateway, application.dialects, settings.clients)
        )
        return server_config(
            application.app,
            settings.clients,
            protocol=accelerated,
            timeout_graceful_shutdown=config.limits.drain_seconds or None,
            lifespan="on",
            ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
        )
