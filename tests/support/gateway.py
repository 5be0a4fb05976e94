"""A gateway in this process, on a real socket, in front of given engines."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from alphatier_models import Family
from alphatier_server.app import GatewaySettings, create_app
from alphatier_server.engines.remote import RemoteEngine
from alphatier_server.metrics import Metrics
from alphatier_server.pool import Pool
from alphatier_server.upstream import UpstreamLimits


@dataclass
class RunningGateway:
    """Where the gateway is, and ways to talk to it."""

    url: str
    pool: Pool
    http: aiohttp.ClientSession
    closing: AsyncExitStack

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, **options)
        self.closing.push_async_callback(client.close)
        return client

    async def metric(self, name: str, **labels: str) -> float:
        async with self.http.get(f"{self.url}/metrics") as response:
            return metric_value(await response.text(), name, **labels)


def metric_value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples called `name` that carry these labels."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@asynccontextmanager
async def running_gateway(
    families: Mapping[str, Family],
    *engine_urls: str,
    idle: float = 30.0,
    max_body_bytes: int = 2**20,
    client: float = 30.0,
) -> AsyncIterator[RunningGateway]:
    metrics = Metrics()
    pool = Pool(metrics)
    settings = GatewaySettings(families, max_body_bytes, client, UpstreamLimits(idle=idle))
    ready = asyncio.Event()

    def report(_text: str) -> None:
        if pool.ready():
            ready.set()

    engines = [RemoteEngine(url, families, pool, report, None).run for url in engine_urls]
    app = create_app(settings, pool, metrics, engines, lambda error: None)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as closing:
            if engine_urls:
                await asyncio.wait_for(ready.wait(), 20)
            yield RunningGateway(f"http://127.0.0.1:{listener.getsockname()[1]}", pool, http, closing)
    finally:
        server.should_exit = True
        await running
        listener.close()
