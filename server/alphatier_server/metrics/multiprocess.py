"""One set of figures for several processes, by prometheus_client's multiprocess mode.

Every process writes its values to mapped files in one folder; a scrape of any of them adds all up. What a
worker counted stays counted when it dies, and its successor goes on in the same files; only what it had in
flight goes. Exemplars are the one thing that this mode cannot do.

`share` must be called before the first metric is made.
https://prometheus.github.io/client_python/multiprocess/
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_TRIES = 5


def share(folder: Path, process: str) -> None:
    """Write this process's metrics to `folder`. `process` is its name there: one at a time may have it."""
    assert "_" not in process  # the collector takes file names apart at underscores
    os.environ[VARIABLE] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]


def shared_registry() -> CollectorRegistry | None:
    """What all processes have written; None where this process counts by itself."""
    if VARIABLE not in os.environ:
        return None
    registry = CollectorRegistry()
    _Collector(registry, os.environ[VARIABLE])  # type: ignore[no-untyped-call]
    return registry


def forget_live_values(folder: Path, process: str) -> None:
    """The process has died: what it had in flight is no more."""
    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]


class _Collector(MultiProcessCollector):
    """Reads once more when it came upon a file that was just being made."""

    def collect(self) -> Iterable[Metric]:
        for _ in range(_TRIES - 1):
            try:
                return list(super().collect())  # type: ignore[no-untyped-call]
            except (struct.error, RuntimeError):
                continue
        return list(super().collect())  # type: ignore[no-untyped-call]
