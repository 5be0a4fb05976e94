"""A gateway in one process: engines, application and server in one loop."""

from collections.abc import Coroutine
from typing import Any

from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.data_plane import DataPlane
from alphatier_server.process.gateway_process import GatewayProcess
from alphatier_server.process.loop import run_loop
from alphatier_server.process.sockets import listen
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


def serve_alone(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError."""
    run_loop(_Alone(source, config, engine_api_key).run)


class _Alone(GatewayProcess):
    def __init__(self, source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
        listener = listen(config.listen.host, config.listen.port)
        super().__init__(source, config, engine_api_key, [listener], Metrics())
        self._data = DataPlane(config, self.settings, self.parts, self.certificate)

    def watches(self) -> list[Coroutine[Any, Any, None]]:
        return self._data.watches()

    async def serve(self) -> bool:
        await self._data.server.serve(sockets=self.listeners)
        return not self._data.server.cut_off

    def end(self, delay: float) -> None:
        self._data.server.end(delay)

    def reload_certificate(self) -> None:
        self._data.reload_certificate()

    async def close(self) -> None:
        await self.parts.access.close()
