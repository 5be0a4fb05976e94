"""A gateway in several processes: this one owns the engines and the settings, its workers answer requests.

The parent binds the sockets before it starts a worker and keeps them open, so that a worker's death loses no
connection that was not accepted yet. It shows its workers the families and the replicas, hears what they are
busy on, and has the metrics and limits that they share in a private folder.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from alphatier_server.app import Parts, app_settings, operators_app
from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.keyed import build_access
from alphatier_server.limits.shared import SharedStore
from alphatier_server.logs import standard_error
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.admin_port import listen_second, second_port
from alphatier_server.process.background import background_tasks
from alphatier_server.process.console import announce, failure, serves
from alphatier_server.process.loop import freeze, run_loop
from alphatier_server.process.server import end_process_soon
from alphatier_server.process.signals import announce_ending, signals
from alphatier_server.process.sockets import listen_for_workers
from alphatier_server.process.tls import certificate_of
from alphatier_server.process.workers import Workers
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig

PROCESS = "parent"
"""The name of the parent's own metrics."""
LATE_SECONDS = 5.0
"""How much longer than their drain limit the workers may take to end."""


def serve_with_workers(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError."""
    with _shared_folder() as shared:
        SharedStore.create(shared / "limits", config.workers)
        run_loop(_Parent(source, config, engine_api_key, shared).run)


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """In memory where there is such a place: it is written at every request, and nobody wants it afterwards."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="alphatier-", dir=memory if os.access(memory, os.W_OK) else None))
    (folder / "metrics").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Parent:
    """One gateway's parent process."""

    def __init__(self, source: Source, config: GatewayConfig, engine_api_key: str | None, shared: Path) -> None:
        self._config = config
        self._settings_of_app = app_settings(config, config.served_hosts())
        self._shared = shared
        self._failures: list[BaseException] = []
        self._state = GatewayState()
        self._cut_off = False
        listen = config.listen
        self._listeners = listen_for_workers(listen.host, listen.port, config.workers)
        self._second = listen_second(listen)
        self._store = SharedStore(shared / "limits", 0)
        certificate_of(listen)  # faults are told here, once
        self._access = build_access(config.access)
        self._metrics = Metrics(shared / "metrics", PROCESS)
        standard_error().on_drop(self._metrics.log_lines_dropped.inc)
        self._control = ControlPlane(
            source,
            config,
            self._metrics,
            report=announce,
            engine_api_key=engine_api_key,
            on_failure=self._failed,
            busy=self._busy,
        )
        self._workers = Workers(
            self._listeners,
            self._settings,
            self._snapshot,
            announce=announce,
            on_death=self._forget,
            answer=self._control.administer,
        )
        self._control.pool.on_change(self._workers.broadcast_snapshot)

    async def run(self) -> None:
        """Serve until told to end."""
        announce(serves(self._control.families, self._listeners[0], tls=self._config.listen.tls_cert is not None))
        async with background_tasks(self._end_soon) as tasks:
            tasks.start(self._control.run())
            tasks.start(self._access.watch())
            freeze()
            async with second_port(self._second, self._operators_app, self._settings_of_app.clients):
                with signals(self._end, self._config.limits.drain_delay, self._hangup):
                    await self._workers.run()
        self._close_listeners()
        if self._failures:
            raise failure(self._failures[0])
        self._control.tidy()
        announce("alphatier has stopped")
        if self._cut_off:
            raise SystemExit(1)

    # -- the end

    def _end(self, delay: float) -> None:
        if self._state.draining:
            self._cut_off = True
            self._workers.cut_off()
            end_process_soon()
            return
        self._state.draining = True
        limit = self._config.limits.drain_seconds
        announce_ending(delay, limit)
        self._workers.drain(delay)
        loop = asyncio.get_running_loop()
        loop.call_later(delay, self._close_listeners)
        if limit:
            loop.call_later(delay + limit + LATE_SECONDS, self._workers.cut_off)

    def _end_soon(self) -> None:
        if not self._state.draining:
            self._end(0.0)

    def _failed(self, error: BaseException) -> None:
        self._failures.append(error)
        self._end_soon()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _hangup(self) -> None:
        self._control.reload()
        self._workers.send({"reload": True})

    # -- the second port

    def _operators_app(self) -> Any:
        parts = Parts(
            self._control.families,
            self._control.pool,
            self._metrics,
            self._access,
            self._state,
            administer=self._control.administer,
        )
        return operators_app(parts, self._settings_of_app, lambda replica: self._workers.busy(replica.name))

    # -- the workers

    def _settings(self, index: int) -> dict[str, Any]:
        return {
            "config": json_values(self._config.model_dump()),
            "metrics": str(self._shared / "metrics"),
            "limits": str(self._shared / "limits"),
        }

    def _snapshot(self) -> dict[str, Any]:
        families = {name: family.model_dump_json() for name, family in self._control.families.items()}
        return {"families": families, "replicas": self._control.pool.snapshot()}

    def _busy(self, name: str, model: str | None) -> int:
        return self._workers.busy(name, model)

    def _forget(self, index: int) -> None:
        """A worker is dead: what it had in flight is no more."""
        self._store.clear_worker(index)
        self._metrics.forget_process(f"worker{index}")


def json_values(value: Any) -> Any:
    """Settings as JSON values, secrets included: for a pipe to a worker, and nowhere else."""
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
