"""A gateway in this process, on a real socket, in front of given engines."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from starlette.middleware.base import BaseHTTPMiddleware

from alphatier_models import Family
from alphatier_server.accelerator.protocol import AcceleratedProtocol, accelerated_protocol
from alphatier_server.app import AppSettings, Parts, assemble
from alphatier_server.engines.fleet import Fleet
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access
from alphatier_server.logs import RequestLog
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.clients import ClientLimits
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.gateway import GatewayConfig, LimitSettings
from alphatier_server.settings.replicas import PoolSettings
from support.fake_engine import FakeEngine, Handler, fake_engine
from support.waiting import eventually


@dataclass
class RunningGateway:
    """Where the gateway is, and ways to talk to it."""

    url: str
    pool: Pool
    fleet: Fleet
    http: aiohttp.ClientSession
    closing: AsyncExitStack

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, **options)
        self.closing.push_async_callback(client.close)
        return client

    async def metric(self, name: str, **labels: str) -> float:
        async with self.http.get(f"{self.url}/metrics") as response:
            return metric_value(await response.text(), name, **labels)

    async def falls_to_zero(self, name: str = "alphatier_requests_in_flight") -> None:
        """Wait until a metric is 0."""

        async def is_zero() -> bool:
            return await self.metric(name) == 0

        await eventually(is_zero, 10)


def metric_value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples called `name` that carry these labels."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@asynccontextmanager
async def running_gateway(
    families: dict[str, Family],
    *engine_urls: str,
    up: int | None = None,
    idle: float = 30.0,
    client: float = 30.0,
    access: Access | None = None,
    state: GatewayState | None = None,
    keep_alive: float = 15.0,
    replicas: PoolSettings | None = None,
    request_log: RequestLog | None = None,
    clients: ClientLimits | None = None,
    protocol: Callable[[type[AcceleratedProtocol]], type] = lambda accelerated: accelerated,
    around: Sequence[Any] = (),
    folders: Mapping[str, Path] | None = None,
    **more: Any,
) -> AsyncIterator[RunningGateway]:
    """A gateway whose engines are all up, or `up` of them.

    `around` are functions to be middleware of Starlette's own kind; `protocol` may replace the accelerator.
    """
    metrics = Metrics()
    pool = Pool(metrics, replicas)
    clients = clients or ClientLimits(body_bytes=2**20, timeout=client)
    limits = LimitSettings(engine_timeout=idle, keepalive_seconds=keep_alive)
    settings = AppSettings(GatewayConfig(limits=limits, **more), clients)
    ready = asyncio.Event()

    def report(_text: str) -> None:
        if sum(replica.up for replica in pool.replicas) >= (len(engine_urls) if up is None else up):
            ready.set()

    fleet = Fleet(
        dict(families),
        folders or {},
        pool,
        metrics,
        [EngineSettings(url=url) for url in engine_urls],
        logs=Path(tempfile.gettempdir()) / "alphatier-tests",
        report=report,
        on_failure=lambda error: None,
    )
    parts = Parts(
        fleet.families,
        pool,
        metrics,
        access or Access(),
        state or GatewayState(),
        request_log or RequestLog(),
        folders=fleet.folders,
    )
    application = assemble(settings, parts)
    for dispatch in around:
        application.app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    accelerated = accelerated_protocol(application.gateway, application.dialects, clients)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(
        uvicorn.Config(
            application.app, http=protocol(accelerated), ws="none", log_config=None, timeout_graceful_shutdown=2
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    fleet.start()
    try:
        async with (
            aiohttp.ClientSession(headers={"content-type": "application/json"}) as http,
            AsyncExitStack() as closing,
        ):
            if engine_urls:
                await asyncio.wait_for(ready.wait(), 20)
            yield RunningGateway(f"http://127.0.0.1:{listener.getsockname()[1]}", pool, fleet, http, closing)
    finally:
        server.should_exit = True
        await running
        await fleet.close()
        listener.close()


@asynccontextmanager
async def pair(
    families: dict[str, Family], handler: Handler, **options: Any
) -> AsyncIterator[tuple[RunningGateway, FakeEngine]]:
    """A gateway in front of one engine that answers with `handler`."""
    async with fake_engine(handler) as engine, running_gateway(families, engine.url, **options) as gateway:
        yield gateway, engine
