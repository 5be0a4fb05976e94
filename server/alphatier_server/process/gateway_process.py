"""What the first process of a gateway does, whether it answers requests itself or has workers that do."""

import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from alphatier_server.app import Parts, app_settings, operators_app, request_log
from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.engines.engine import Busy
from alphatier_server.keys.access import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.background import Background
from alphatier_server.process.loop import freeze
from alphatier_server.process.messages import announce
from alphatier_server.process.server import second_port
from alphatier_server.process.signals import announce_ending, signals
from alphatier_server.process.sockets import listen, url_of
from alphatier_server.process.tls import certificate_of
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


class Answering(Protocol):
    """What answers requests: this process (`data_plane`), or its workers (`parent`)."""

    cut_off: bool
    """Whether requests that ran were cut off."""

    def watches(self) -> list[Coroutine[Any, Any, None]]:
        """What works in the background meanwhile."""

    async def answer(self) -> None:
        """Answer requests until `end`."""

    def end(self, delay: float) -> None:
        """Drain and end, listening on for `delay` seconds. The second call ends at once."""

    def reload_certificate(self) -> None: ...


class GatewayProcess:
    """One gateway's engines, settings, signals and second port. Made before the loop runs.

    Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError, as `run` does.
    """

    def __init__(
        self,
        source: Source,
        config: GatewayConfig,
        engine_api_key: str | None,
        metrics: Metrics,
        busy: Busy | None = None,
    ) -> None:
        address = config.listen
        self.config = config
        second = address.admin_port
        self._second = listen(address.admin_host, second, option="--admin-port") if second is not None else None
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
        self.parts = Parts(
            self.control.families,
            self.control.pool,
            metrics,
            access,
            log=request_log(config.log, metrics),
            administer=self.control.administer,
        )

    async def run(self, listener: socket.socket, answering: Answering) -> None:
        """Serve until told to end; `listener` is of the public port."""
        self._answering = answering
        url = url_of(listener, tls=self.certificate is not None)
        announce(f"alphatier serves {', '.join(self.control.families)} at {url}")
        works = (self.control.run(), self.parts.access.watch(), *answering.watches())
        try:
            async with (
                self._background.running(*works),
                second_port(self._second, self._operators_app, self.settings.clients),
            ):
                freeze()
                with signals(self._end, self.config.limits.drain_delay, self._hangup):
                    await answering.answer()
        finally:
            await self.parts.access.close()
        self.control.tidy()
        announce("alphatier has stopped")
        if answering.cut_off:
            raise SystemExit(1)

    def _operators_app(self) -> Any:
        return operators_app(self.parts, self.settings, lambda replica: self._busy(replica.name, None))

    def _end(self, delay: float) -> None:
        if not self.parts.state.draining:
            announce_ending(delay, self.config.limits.drain_seconds)
        self._answering.end(delay)

    def _end_soon(self) -> None:
        if not self.parts.state.draining:
            self._end(0.0)

    def _hangup(self) -> None:
        self.control.reload()
        self._answering.reload_certificate()
