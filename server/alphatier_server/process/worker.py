"""One worker process: answers requests, knows engines and families from its parent, ends when told to.

    python -m alphatier_server.process.worker INDEX LINK LISTENER    (settings as JSON on standard input)

LINK and LISTENER are inherited file descriptors. When the parent is gone, the worker drains and ends too.
"""

import asyncio
import contextlib
import shutil
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from alphatier_models import Family
from alphatier_server.app import Parts, app_settings, request_log
from alphatier_server.errors import EngineTimeout
from alphatier_server.keys.access import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.data_plane import DataPlane
from alphatier_server.process.link import Link
from alphatier_server.process.messages import configure_logging
from alphatier_server.process.server import Background, freeze, run_loop, signals
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.gateway import GatewayConfig

HEARTBEAT_SECONDS = 1.0
ANSWER_SECONDS = 60.0
"""Longest wait for the parent to do what an administrator asked for; it answers by itself after half of that."""


def main() -> int:
    """Serve until the parent says so or is gone."""
    index, link, listener = map(int, sys.argv[1:])
    settings: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    config = GatewayConfig.model_validate(settings["config"], strict=False)
    configure_logging(config.log)
    ends = socket.socket(fileno=link), socket.socket(fileno=listener)
    run_loop(lambda: _serve(index, config, settings, *ends))
    return 0


async def _serve(
    index: int, config: GatewayConfig, settings: dict[str, Any], link: socket.socket, listener: socket.socket
) -> None:
    shared = Path(settings["shared"])
    families: dict[str, Family] = {}
    metrics = Metrics(shared / "metrics", f"worker{index}")
    pool = Pool(metrics, config.replicas, most_per_replica=config.overload.max_in_flight_per_replica)
    parent = Parent(await Link.open(link), families, pool, metrics)
    parent.take(settings["first"])
    store = (shared / "limits", index)
    access = build_access(config.access, shared=store, redis_failed=metrics.limit_store_failures.inc)
    log_of_requests = request_log(config.log, metrics)
    parts = Parts(
        families,
        pool,
        metrics,
        access,
        log=log_of_requests,
        administer=parent.ask,
        folders=parent.folders,
        frozen=parent.frozen,
    )
    data_plane = DataPlane(config, app_settings(config, config.served_hosts()), parts, listener)
    works = (access.watch(), *data_plane.watches(), parent.listen(data_plane), parent.report(data_plane))
    async with Background(data_plane.end_soon).running(*works):
        freeze()
        with signals(data_plane.end, config.limits.drain_delay, data_plane.reload_certificate):
            await data_plane.answer()
    await access.close()
    parent.send_state()
    parent.link.close()
    if parent.is_gone:  # and cannot tidy up
        shutil.rmtree(shared, ignore_errors=True)


@dataclass
class Parent:
    """The parent as a worker knows it: shows families and replicas, says what to do, does what it is asked."""

    link: Link
    families: dict[str, Family]
    pool: Pool
    metrics: Metrics
    is_gone: bool = False
    folders: dict[str, Path] = field(default_factory=dict)
    """The families', by name."""
    frozen: dict[str, float] = field(default_factory=dict)
    """Levels of brownout that an administrator holds, by family."""

    def __post_init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._snapshot = -1
        """The number of the last one that was taken over."""
        self._asked: dict[int, asyncio.Future[tuple[int, Any]]] = {}
        self._number = 0

    def take(self, message: dict[str, Any]) -> None:
        """Become what the snapshot in the message shows, in one step of the loop."""
        shown: dict[str, str] = message["families"]
        for name, text in shown.items():
            if self._texts.get(name) != text:
                self.families[name] = family = Family.model_validate_json(text)
                self.metrics.declare(family)
        for name in self.families.keys() - shown.keys():
            del self.families[name]
        self._texts = shown
        self.folders.clear()
        self.folders.update({name: Path(folder) for name, folder in message["folders"].items()})
        self.frozen.clear()
        self.frozen.update(message["frozen"])
        self.pool.restore(message["replicas"])
        self._snapshot = message["snapshot"]

    async def ask(self, action: str, arguments: dict[str, Any]) -> tuple[int, Any]:
        """Have the parent do it, where the engines are. Returns an HTTP status and a JSON document."""
        self._number += 1
        number = self._number
        self._asked[number] = asyncio.get_running_loop().create_future()
        self.link.send({"ask": number, "action": action, "arguments": arguments})
        try:
            return await asyncio.wait_for(self._asked[number], ANSWER_SECONDS)
        except TimeoutError:
            error = EngineTimeout("The gateway's parent process did not answer.", code="no_answer")
            return error.status, error.document()
        finally:
            del self._asked[number]

    async def listen(self, data_plane: DataPlane) -> None:
        """Do what the parent says; without a parent, end."""
        async for message in self.link.messages():
            if "snapshot" in message:
                self.take(message)
                self.send_state()
            if "drain" in message:
                data_plane.end(message["drain"])
            if "reload" in message:
                data_plane.reload_certificate()
            if (answer := self._asked.get(message.get("answer", 0))) is not None and not answer.done():
                answer.set_result((message["status"], message["document"]))
        self.is_gone = True
        data_plane.end_soon()

    async def report(self, data_plane: DataPlane) -> None:
        """Say that this process listens, then again and again what it is busy with."""
        while not data_plane.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        while True:
            self.send_state()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def send_state(self) -> None:
        """Which replicas this process is busy on, and the snapshot that it goes by."""
        self.link.send({"snapshot": self._snapshot, "busy": self.pool.busy()})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
