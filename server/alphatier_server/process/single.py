"""A gateway in one process: engines, application and server in one loop."""

from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.keys.keyed import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.admin_port import listen_second, second_port
from alphatier_server.process.background import beside
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
        self._backend = ControlPlane(
            source, config, self._metrics, report=announce, engine_api_key=engine_api_key, on_failure=self._failed
        )
        self._front = DataPlane(
            config,
            self._backend.families,
            self._backend.pool,
            self._metrics,
            self._access,
            administer=self._backend.administer,
        )

    async def run(self) -> None:
        """Serve until told to end."""
        front, backend, config = self._front, self._backend, self._config
        announce(serves(backend.families, self._listener, tls=config.listen.tls_cert is not None))
        async with beside(front.end) as tasks:
            tasks.start(backend.run())
            front.start_beside(tasks)
            freeze()
            async with second_port(self._second, front.operators_app, front.client_limits):
                with signals(self._end, config.limits.drain_delay, self._hangup):
                    await front.server.serve(sockets=[self._listener])
        await self._access.close()
        if self._failures:
            raise failure(self._failures[0])
        backend.tidy()
        announce("alphatier has stopped")
        if front.server.cut_off:
            raise SystemExit(1)

    def _end(self, delay: float) -> None:
        if not self._front.state.draining:
            announce_ending(delay, self._config.limits.drain_seconds)
        self._front.server.end(delay)

    def _hangup(self) -> None:
        self._backend.reload()
        self._front.reload_certificate()

    def _failed(self, error: BaseException) -> None:
        self._failures.append(error)
        self._front.end()
