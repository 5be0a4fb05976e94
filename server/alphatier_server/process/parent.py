"""A gateway in several processes: this one owns the engines and the settings, its workers answer requests.

The parent binds the sockets before it starts a worker and keeps them open, so that a worker's death loses no
connection that was not accepted yet. It shows its workers the families and the replicas, hears what they are
busy on, and has the metrics and limits that they share in a private folder.
"""

import asyncio
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from alphatier_server.limits.shared import SharedStore
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.gateway_process import GatewayProcess
from alphatier_server.process.messages import announce
from alphatier_server.process.server import end_process_soon, run_loop
from alphatier_server.process.sockets import listen_for_workers
from alphatier_server.process.workers import Workers
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig

PROCESS = "parent"
"""The name of the parent's own metrics."""
LATE_SECONDS = 5.0
"""How much longer than their drain limit the workers may take to end."""
_MEMORY = Path("/dev/shm")


def serve_with_workers(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError."""
    # in memory where there is such a place: it is written at every request, and nobody wants it afterwards
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="alphatier-", dir=place, ignore_cleanup_errors=True) as folder:
        shared = Path(folder)
        (shared / "metrics").mkdir()
        SharedStore.create(shared / "limits", config.workers)
        listeners = listen_for_workers(config.listen.host, config.listen.port, config.workers)
        metrics = Metrics(shared / "metrics", PROCESS)
        gateway = GatewayProcess(
            source, config, engine_api_key, metrics, busy=lambda name, model: crew.busy(name, model)
        )
        crew = _Crew(gateway, listeners, shared)
        run_loop(lambda: gateway.run(listeners[0], crew))


class _Crew:
    """The workers of one gateway, told what they must know."""

    def __init__(self, gateway: GatewayProcess, listeners: list[socket.socket], shared: Path) -> None:
        self._gateway = gateway
        self._listeners = listeners
        self._store = SharedStore(shared / "limits", 0)
        self.cut_off = False
        self._workers = Workers(
            listeners,
            {"config": gateway.config.model_dump(), "shared": shared},
            self._snapshot,
            announce=announce,
            on_death=self._forget,
            answer=gateway.control.administer,
        )
        self.busy = self._workers.busy
        gateway.control.pool.on_change(self._workers.broadcast_snapshot)

    async def answer(self) -> None:
        try:
            await self._workers.run()
        finally:
            self._close_listeners()

    def end(self, delay: float) -> None:
        state = self._gateway.parts.state
        if state.draining:
            self.cut_off = True
            self._workers.cut_off()
            end_process_soon()
            return
        state.draining = True
        self._workers.drain(delay)
        loop = asyncio.get_running_loop()
        loop.call_later(delay, self._close_listeners)
        if limit := self._gateway.config.limits.drain_seconds:
            loop.call_later(delay + limit + LATE_SECONDS, self._workers.cut_off)

    def reload_certificate(self) -> None:
        self._workers.send({"reload": True})

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _snapshot(self) -> dict[str, Any]:
        control = self._gateway.control
        families = {name: family.model_dump_json() for name, family in control.families.items()}
        return {"families": families, "replicas": control.pool.snapshot()}

    def _forget(self, index: int) -> None:
        """A worker is dead: what it had in flight is no more."""
        self._store.clear_worker(index)
        self._gateway.parts.metrics.forget_process(f"worker{index}")
