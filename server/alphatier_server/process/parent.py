"""A gateway in several processes: this one owns the engines and the settings, its workers answer requests.

The parent binds the sockets before it starts a worker and keeps them open, so that a worker's death loses no
connection that was not accepted yet. It shows its workers the families and the replicas, hears what they are
busy on, and has the metrics and limits that they share in a private folder.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from alphatier_server.limits.shared import SharedStore
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.gateway_process import GatewayProcess
from alphatier_server.process.messages import announce
from alphatier_server.process.server import run_loop
from alphatier_server.process.sockets import listen_for_workers
from alphatier_server.process.workers import Workers
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig

PROCESS = "parent"
"""The name of the parent's own metrics."""
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
            source, config, engine_api_key, metrics, busy=lambda name, model: workers.busy(name, model)
        )
        control, store = gateway.control, SharedStore(shared / "limits", 0)

        def snapshot() -> dict[str, Any]:
            families = {name: family.model_dump_json() for name, family in control.families.items()}
            return {"families": families, "replicas": control.pool.snapshot()}

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
