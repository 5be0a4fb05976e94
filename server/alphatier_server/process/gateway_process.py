"""What the first process of a gateway does, whether it answers requests itself or has workers that do."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from alphatier_server.app import app_settings, operators_app
from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.engines.engine import Busy
from alphatier_server.keys.keyed import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.background import Background
from alphatier_server.process.data_plane import parts_of
from alphatier_server.process.loop import freeze
from alphatier_server.process.messages import announce
from alphatier_server.process.server import second_port
from alphatier_server.process.signals import announce_ending, signals
from alphatier_server.process.sockets import listen, url_of
from alphatier_server.process.tls import certificate_of
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


class GatewayProcess(ABC):
    """One gateway's engines, settings, signals and second port. Made before the loop runs.

    Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError, as `run` does.
    """

    def __init__(
        self,
        source: Source,
        config: GatewayConfig,
        engine_api_key: str | None,
        listeners: list[socket.socket],
        metrics: Metrics,
        busy: Busy | None = None,
    ) -> None:
        address = config.listen
        self.config = config
        self.listeners = listeners
        self._second = (
            listen(address.admin_host, address.admin_port, option="--admin-port")
            if address.admin_port is not None
            else None
        )
        self.settings = app_settings(config, config.served_hosts())
        self.certificate = certificate_of(address)
        access = build_access(config.access, redis_failed=metrics.limit_store_failures.inc)
        self._background = Background(self._end_soon)
        self.control = ControlPlane(
            source,
            config,
            metrics,
            report=announce,
            engine_api_key=engine_api_key,
            on_failure=self._background.fail,
            busy=busy,
        )
        self._busy = busy or self.control.pool.in_flight
        self.parts = parts_of(
            config, self.control.families, self.control.pool, metrics, access, self.control.administer
        )

    async def run(self) -> None:
        """Serve until told to end."""
        url = url_of(self.listeners[0], tls=self.certificate is not None)
        announce(f"alphatier serves {', '.join(self.control.families)} at {url}")
        try:
            async with self._background.running(self.control.run(), self.parts.access.watch(), *self.watches()):
                freeze()
                async with second_port(self._second, self._operators_app, self.settings.clients):
                    with signals(self._end, self.config.limits.drain_delay, self._hangup):
                        in_peace = await self.serve()
        finally:
            await self.close()
        self.control.tidy()
        announce("alphatier has stopped")
        if not in_peace:
            raise SystemExit(1)

    @abstractmethod
    def watches(self) -> list[Coroutine[Any, Any, None]]:
        """What else works in the background."""

    @abstractmethod
    async def serve(self) -> bool:
        """Answer requests until `end`. Returns whether all that ran could finish."""

    @abstractmethod
    def end(self, delay: float) -> None:
        """Drain and end, listening on for `delay` seconds. The second call ends at once."""

    @abstractmethod
    def reload_certificate(self) -> None:
        """Read it again now."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what requests needed."""

    def _operators_app(self) -> Any:
        return operators_app(self.parts, self.settings, lambda replica: self._busy(replica.name, None))

    def _end(self, delay: float) -> None:
        if not self.parts.state.draining:
            announce_ending(delay, self.config.limits.drain_seconds)
        self.end(delay)

    def _end_soon(self) -> None:
        if not self.parts.state.draining:
            self._end(0.0)

    def _hangup(self) -> None:
        self.control.reload()
        self.reload_certificate()
