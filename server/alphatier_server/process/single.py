"""A gateway in one process: engines, application and server in one loop."""

from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.keys.keyed import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.admin_port import listen_second, second_port
from alphatier_server.process.background import background_tasks
from alphatier_server.process.console import announce, failure, serves
from alphatier_server.process.data_plane import DataPlane
from alphatier_server.process.loop import freeze, run_loop
from alphatier_server.process.signals import announce_ending, signals
from alphatier_server.process.sockets import listen
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


def serve_alone(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError."""
    run_loop(_Alone(source, config, engine_api_key).run)


class _Alone:
    """One gateway, one process. Made before the loop runs."""

    def __init__(self, source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
        self._config = config
        self._failures: list[BaseException] = []
        self._listener = listen(config.listen.host, config.listen.port)
        self._second = listen_second(config.listen)
        self._metrics = Metrics()
        self._access = build_access(config.access, redis_failed=self._metrics.limit_store_failures.inc)
        self._control = ControlPlane(
            source, config, self._metrics, report=announce, engine_api_key=engine_api_key, on_failure=self._failed
        )
        self._data = DataPlane(
            config,
            self._control.families,
            self._control.pool,
            self._metrics,
            self._access,
            administer=self._control.administer,
        )

    async def run(self) -> None:
        """Serve until told to end."""
        data_plane, control_plane, config = self._data, self._control, self._config
        announce(serves(control_plane.families, self._listener, tls=config.listen.tls_cert is not None))
        async with background_tasks(data_plane.end) as tasks:
            tasks.start(control_plane.run())
            data_plane.start_background(tasks)
            freeze()
            async with second_port(self._second, data_plane.operators_app, data_plane.client_limits):
                with signals(self._end, config.limits.drain_delay, self._hangup):
                    await data_plane.server.serve(sockets=[self._listener])
        await self._access.close()
        if self._failures:
            raise failure(self._failures[0])
        control_plane.tidy()
        announce("alphatier has stopped")
        if data_plane.server.cut_off:
            raise SystemExit(1)

    def _end(self, delay: float) -> None:
        if not self._data.state.draining:
            announce_ending(delay, self._config.limits.drain_seconds)
        self._data.server.end(delay)

    def _hangup(self) -> None:
        self._control.reload()
        self._data.reload_certificate()

    def _failed(self, error: BaseException) -> None:
        self._failures.append(error)
        self._data.end()
