"""What the first process of a gateway does, whether it answers requests itself or has workers that do."""

import os
import socket
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from alphatier_server.app import Parts, app_settings, operators_app, request_log
from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.engines.engine import Busy
from alphatier_server.keys.access import build_access
from alphatier_server.limits.shared import SharedStore
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.data_plane import DataPlane
from alphatier_server.process.messages import announce
from alphatier_server.process.server import Background, freeze, run_loop, second_port, signals
from alphatier_server.process.sockets import listen, listen_for_workers, url_of
from alphatier_server.process.tls import certificate_of
from alphatier_server.process.workers import Workers
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


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
        certificate_of(address)  # a fault of it is told before anything starts
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
            folders=self.control.fleet.folders,
            frozen=self.control.fleet.frozen,
        )

    async def run(
        self, listener: socket.socket, answering: DataPlane | Workers, *works: Coroutine[Any, Any, None]
    ) -> None:
        """Serve until told to end, with `works` in the background; `listener` is of the public port.

        Requests are answered by this process (`data_plane`), or by its workers.
        """
        self._answering = answering
        url = url_of(listener, tls=self.config.listen.tls_cert is not None)
        announce(f"alphatier serves {', '.join(self.control.families)} at {url}")
        try:
            async with (
                self._background.running(self.control.run(), self.parts.access.watch(), *works),
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

    def _operators_app(self) -> FastAPI:
        return operators_app(self.parts, self.settings, lambda replica: self._busy(replica.name, None))

    def _end(self, delay: float) -> None:
        if not self.parts.state.draining:
            limit = self.config.limits.drain_seconds
            wait = f"for up to {limit:g} s" if limit else "without a limit"
            later = f", listening on for {delay:g} s" if delay else ""
            announce(
                f"ending: new requests are refused{later}; running ones may finish {wait} (a second signal ends them)"
            )
        self._answering.end(delay)
        self.parts.state.draining = True

    def _end_soon(self) -> None:
        if not self.parts.state.draining:
            self._end(0.0)

    def _hangup(self) -> None:
        self.control.reload()
        self._answering.reload_certificate()


def serve_alone(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve in this process until Ctrl-C or SIGTERM. Raises what GatewayProcess does."""
    listener = listen(config.listen.host, config.listen.port)
    gateway = GatewayProcess(source, config, engine_api_key, Metrics())
    data_plane = DataPlane(config, gateway.settings, gateway.parts, listener)
    run_loop(lambda: gateway.run(listener, data_plane, *data_plane.watches()))


def serve_with_workers(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve in worker processes until Ctrl-C or SIGTERM; this one owns the engines and the settings.

    The sockets are bound before a worker starts and stay open here, so that a worker's death loses no connection
    that was not accepted yet. Workers are shown the families and the replicas, tell what they are busy on, and
    share their metrics and limits in a private folder. Raises what GatewayProcess does.
    """
    # in memory where there is such a place: it is written at every request, and nobody wants it afterwards
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="alphatier-", dir=place, ignore_cleanup_errors=True) as folder:
        shared = Path(folder)
        (shared / "metrics").mkdir()
        SharedStore.create(shared / "limits", config.workers)
        listeners = listen_for_workers(config.listen.host, config.listen.port, config.workers)
        metrics = Metrics(shared / "metrics", "parent")
        gateway = GatewayProcess(
            source, config, engine_api_key, metrics, busy=lambda name, model: workers.busy(name, model)
        )
        control, store = gateway.control, SharedStore(shared / "limits", 0)

        def snapshot() -> dict[str, Any]:
            families = {name: family.model_dump_json() for name, family in control.families.items()}
            folders = {name: str(folder) for name, folder in control.fleet.folders.items()}
            replicas, frozen = control.pool.snapshot(), control.fleet.frozen
            return {"families": families, "folders": folders, "replicas": replicas, "frozen": frozen}

        def forget(index: int) -> None:
            """A worker is dead: what it had in flight is no more."""
            store.clear_worker(index)
            metrics.forget_process(f"worker{index}")

        workers = Workers(
            listeners,
            {"config": config.model_dump(), "shared": shared},
            snapshot,
            announce=announce,
            on_death=forget,
            administer=control.administer,
            drain_limit=config.limits.drain_seconds,
        )
        control.pool.on_change(workers.broadcast_snapshot)
        run_loop(lambda: gateway.run(listeners[0], workers))
