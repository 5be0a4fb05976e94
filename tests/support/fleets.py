"""A fleet of engines that look like vLLM, behind a gateway in this process."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from alphatier_models import Family, Tier, directory_sha256, load_family, save_family
from alphatier_models.gated import export
from alphatier_server.accelerator.protocol import accelerated_protocol
from alphatier_server.app import AppSettings, Parts, assemble
from alphatier_server.engines.control import administer
from alphatier_server.engines.engine import Busy
from alphatier_server.engines.fleet import Fleet
from alphatier_server.engines.plan import plan_engines
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.keys.access import Access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.replicas import PoolSettings
from support.fake_engine import FakeEngine
from support.processes import START_SECONDS
from support.waiting import eventually

FAKE_VLLM = Path(__file__).with_name("fake_vllm.py")
QUICK = PoolSettings(health_interval=0.1, health_timeout=2)
VLLM = EngineSettings(kind="vllm")


@dataclass
class RunningFleet:
    """A gateway, its fleet, and the folder where its engines find their signals."""

    fleet: Fleet
    pool: Pool
    metrics: Metrics
    folder: Path
    url: str
    http: aiohttp.ClientSession
    reported: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def events(self) -> list[str]:
        """What the engines have noted: how they were started, what they loaded and unloaded."""
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []

    def engine_environment(self) -> dict[str, str]:
        """What the engine that was started last was given."""
        document: dict[str, str] = json.loads((self.folder / "environment").read_text())
        return document

    def finish_streams(self) -> None:
        (self.folder / "finish").touch()

    async def ask(self, model: str) -> tuple[int, str]:
        """Status, and the weights that answered."""
        async with self.post(model) as response:
            document = await response.json()
        if response.status != 200:
            return response.status, document["error"]["message"]
        return 200, document["choices"][0]["message"]["content"]

    def post(self, model: str, **fields: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
        return self.http.post(f"{self.url}/v1/chat/completions", json=body)

    async def alpha(self, model: str, **fields: Any) -> tuple[str, str]:
        """Tier and decision, as the answer's headers tell them; the answer must be of that tier's weights."""
        async with self.post(model, **fields) as response:
            assert response.status == 200, await response.text()
            document = await response.json()
        tier, decision = response.headers["x-alphatier-tier"], response.headers["x-alphatier-decision"]
        assert document["model"] == f"toy:{tier}"
        weights = document["choices"][0]["message"]["content"]
        family = self.fleet.families["toy"]
        if tier.startswith("alpha-"):
            assert weights == exported(self.fleet.folders["toy"], float(tier[6:]))
            assert float(response.headers["x-alphatier-alpha"]) == float(tier[6:])
        else:
            assert weights == (family.tier(tier).sha256 or "base")
        return tier, decision

    async def up(self, *names: str, seconds: float = 20) -> None:
        def are_up() -> bool:
            assert not self.failures, self.failures
            return {r.name for r in self.pool.replicas if r.up and not r.draining} >= set(names)

        await eventually(are_up, seconds)

    def states(self) -> dict[str, str]:
        return {engine["name"]: engine["state"] for engine in self.fleet.status()}


NewFleet = Callable[..., AbstractAsyncContextManager[RunningFleet]]
"""Takes what `running_fleet` takes after the families."""


async def texts(response: aiohttp.ClientResponse) -> list[str]:
    """The weights that a stream ran on, token by token; its end must be clean."""
    lines = [line.decode().strip() for line in (await response.read()).splitlines() if line.strip()]
    assert lines[-1] == "data: [DONE]", lines[-1]
    return [json.loads(line[6:])["choices"][0]["delta"]["content"].strip() for line in lines[:-1]]


def exported(family: Path, alpha: float) -> str:
    """The weights of the family's gated adapter at `alpha`."""
    with tempfile.TemporaryDirectory() as made:
        export(family / "gated", alpha, Path(made))
        return directory_sha256(Path(made))


def fake_planner(folder: Path) -> Callable[..., list[EngineSpec]]:
    """`plan_engines`, with a program in vLLM's place."""

    def plan(*arguments: Any, **options: Any) -> list[EngineSpec]:
        return [_fake(spec, folder) for spec in plan_engines(*arguments, **options)]

    return plan


def _fake(spec: EngineSpec, folder: Path) -> EngineSpec:
    def command(port: int) -> list[str]:
        real = spec.command(port)
        return [sys.executable, str(FAKE_VLLM), "--folder", str(folder), *real[real.index("--host") :]]

    return replace(spec, command=command)


def vllm_fleet(
    folder: Path, family: Path, config: GatewayConfig | None = None, access: Access | None = None
) -> AbstractAsyncContextManager["RunningFleet"]:
    """A real vLLM of the family `tiny`."""
    return running_fleet(
        folder,
        [family],
        [VLLM],
        PoolSettings(),
        wait=["tiny-vllm"],
        planner=plan_engines,
        patience=START_SECONDS,
        config=config,
        access=access,
    )


@asynccontextmanager
async def running_fleet(
    folder: Path,
    families: Sequence[Path],
    engines: Sequence[EngineSettings],
    settings: PoolSettings = QUICK,
    wait: Sequence[str] = (),
    planner: Callable[..., list[EngineSpec]] | None = None,
    patience: float = 20,
    busy: Busy | None = None,
    environment: Mapping[str, str] = os.environ,
    default_key: str | None = None,
    ca_file: Path | None = None,
    config: GatewayConfig | None = None,
    access: Access | None = None,
) -> AsyncIterator[RunningFleet]:
    config = config or GatewayConfig()
    metrics = Metrics()
    pool = Pool(metrics, settings)
    loaded = {family.name: (family, path) for path in families for family in [load_family(path)]}
    reported: list[str] = []
    failures: list[BaseException] = []
    fleet = Fleet(
        {name: family for name, (family, _) in loaded.items()},
        {name: path for name, (_, path) in loaded.items()},
        pool,
        metrics,
        engines,
        logs=folder / "logs",
        report=reported.append,
        on_failure=failures.append,
        planner=planner or fake_planner(folder),
        busy=busy,
        environment=environment,
        default_key=default_key,
        ca_file=ca_file,
        alphas=config.alphas,
        canary=config.canary,
    )
    plain = AppSettings(config)
    parts = Parts(
        fleet.families,
        pool,
        metrics,
        access or Access(),
        administer=partial(administer, fleet),
        folders=fleet.folders,
    )
    application = assemble(plain, parts)
    protocol = accelerated_protocol(application.gateway, application.dialects, plain.clients)
    server = uvicorn.Server(
        uvicorn.Config(
            application.app, port=0, http=protocol, ws="none", log_config=None, timeout_graceful_shutdown=2
        )
    )
    running = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started)
        fleet.start()
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(headers={"content-type": "application/json"}) as http:
            result = RunningFleet(fleet, pool, metrics, folder, url, http, reported, failures)
            await result.up(*wait, seconds=patience)
            yield result
    finally:
        await fleet.close()
        server.should_exit = True
        await running


def by_url(engine: FakeEngine, **changes: Any) -> EngineSettings:
    """The settings of an engine that somebody else runs."""
    return EngineSettings(url=engine.url, **changes)


def write_adapter(folder: Path, name: str, text: str, rank: int = 12) -> str:
    """New weights for an adapter. Returns their checksum."""
    adapter = folder / name
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": rank, "base_model_name_or_path": "base"}))
    (adapter / "adapter_model.safetensors").write_bytes(text.encode())
    return directory_sha256(adapter)


def change_tier(folder: Path, name: str, text: str, rank: int = 12) -> str:
    """Write other weights for the tier and say so in family.json, adding the tier where it is new."""
    family = load_family(folder, checksums=False)
    checksum = write_adapter(folder, name, text, rank)
    known = [tier for tier in family.tiers if tier.name != name]
    tier = Tier(name=name, layout="adapter", path=name, sha256=checksum, alpha=0.2)
    save_family(family.model_copy(update={"tiers": (*known, tier)}), folder)
    return checksum


def remove_tier(folder: Path, name: str) -> Family:
    """Take the tier out of family.json."""
    family = load_family(folder, checksums=False)
    smaller = family.model_copy(update={"tiers": tuple(tier for tier in family.tiers if tier.name != name)})
    save_family(smaller, folder)
    return smaller
