"""Runs the gateway and its engines in one command: what `alphatier serve` does after its options are read."""

import contextlib
import gc
import logging
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from alphatier_models import Family, load_family
from alphatier_models.files import family_file
from alphatier_server.app import EngineTask, GatewaySettings, create_app
from alphatier_server.engines.plan import EngineError, EngineKind, installed_engine, plan_engines
from alphatier_server.engines.remote import RemoteEngine
from alphatier_server.engines.supervisor import ManagedEngine
from alphatier_server.metrics import Metrics
from alphatier_server.pool import Pool
from alphatier_server.upstream import UpstreamLimits


@dataclass(frozen=True)
class ServeOptions:
    """The options of `alphatier serve`; its `--help` explains each."""

    families: Sequence[Path]
    host: str
    port: int
    engine: EngineKind | None
    """None for whichever is installed."""
    urls: Sequence[str]
    engine_arguments: Sequence[str]
    engine_timeout: float
    client_timeout: float
    engine_logs: Path | None
    engine_api_key: str | None
    max_body_bytes: int
    drain_seconds: int
    checksums: bool


class ServeError(Exception):
    """The gateway cannot start or had to stop; the message names the remedy."""


def serve(options: ServeOptions) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, FamilyError or EngineError."""
    families = _load(options)
    listener = _listen(options.host, options.port)
    logs = options.engine_logs or Path(tempfile.mkdtemp(prefix="alphatier-"))
    gateway = _GatewayServer(options, families, logs)
    try:
        gateway.run(listener)
    finally:
        listener.close()
        if options.engine_logs is None and gateway.failure is None:
            shutil.rmtree(logs, ignore_errors=True)
    if gateway.failure is not None:
        raise ServeError(str(gateway.failure)) from gateway.failure


class _GatewayServer:
    """Uvicorn with the application and the engines' tasks; remembers why it had to stop."""

    def __init__(self, options: ServeOptions, families: dict[str, tuple[Family, Path]], logs: Path) -> None:
        self.failure: BaseException | None = None
        self._options = options
        self._families = {name: family for name, (family, _) in families.items()}
        self._metrics = Metrics()
        for family in self._families.values():
            self._metrics.declare(family)
        self._pool = Pool(self._metrics)
        self._ready_told = False
        settings = GatewaySettings(
            self._families,
            options.max_body_bytes,
            options.client_timeout,
            UpstreamLimits(idle=options.engine_timeout),
            options.engine_api_key,
        )
        engines = self._remote() if options.urls else self._managed(families, logs)
        app = create_app(settings, self._pool, self._metrics, engines, self._engine_failed)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=options.drain_seconds,
                lifespan="on",
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Serve on `listener` until told to stop."""
        host, port = listener.getsockname()[:2]
        tell(f"alphatier serves {', '.join(self._families)} at http://{_shown_host(host)}:{port}")
        # What was loaded at start lives as long as the process; the collector need not look at it again.
        gc.freeze()
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[listener])
        tell("alphatier has stopped")

    def _remote(self) -> list[EngineTask]:
        key = self._options.engine_api_key
        return [RemoteEngine(url, self._families, self._pool, self._told, key).run for url in self._options.urls]

    def _managed(self, families: dict[str, tuple[Family, Path]], logs: Path) -> list[EngineTask]:
        kind = self._options.engine or installed_engine()
        specs = [
            spec
            for family, folder in families.values()
            for spec in plan_engines(
                family, folder, kind, work=logs / "work", arguments=self._options.engine_arguments
            )
        ]
        return [ManagedEngine(spec, self._pool, self._metrics, logs, self._told).run for spec in specs]

    def _told(self, text: str) -> None:
        tell(text)
        if self._pool.ready() and not self._ready_told:
            self._ready_told = True
            tell('ready; try: alphatier ask --all-tiers "What is 17 + 25 - 8?"')

    def _engine_failed(self, error: BaseException) -> None:
        if not isinstance(error, EngineError):
            logging.getLogger("alphatier").error("an engine's supervision failed", exc_info=error)
        self.failure = error
        self._server.should_exit = True


def tell(text: str) -> None:
    """A line for the operator, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _load(options: ServeOptions) -> dict[str, tuple[Family, Path]]:
    families: dict[str, tuple[Family, Path]] = {}
    for path in options.families:
        family = load_family(path, checksums=options.checksums)
        if family.name in families:
            raise ServeError(f"Two families are called {family.name!r}; rename one in its family.json.")
        families[family.name] = (family, family_file(path).parent)
    return families


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything slow starts, so that a taken port is known at once."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(address[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[4])
    except OSError as error:
        raise ServeError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from error
    listener.set_inheritable(False)
    return listener


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
