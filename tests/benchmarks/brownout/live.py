"""The same before a real gateway: `alphatier serve`, an engine of known pace, clients that leave the choice open."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import click
import numpy as np

from alphatier_server.keys.file import add_key
from alphatier_server.keys.ring import ApiKey, digest_of
from benchmarks.brownout.simulate import House, Seen, Tiers
from benchmarks.deadlines import engine
from benchmarks.paced_engine import Samples
from support.gateway import metric_value
from support.processes import serving

KEY = "sk-at-brownout"
LOOK_SECONDS = 0.5


class Live:
    """Runs loads, each before a gateway and an engine of its own."""

    def __init__(
        self, folder: Path, family: Path, tiers: Tiers, house: House, objective: float, saturating: float, model: str
    ) -> None:
        self._folder = folder
        self._family = family
        self._tiers = tiers
        self._house = house
        self._objective = objective
        self._saturating = saturating
        self._model = model
        self._samples = Samples.read(folder, tiers.names)
        self._questions = sorted(self._samples.answers[tiers.names[0]])

    def run(self, load: Callable[[float], float], seconds: float, *, brownout: bool = True) -> Seen:
        """Without brownout nothing is shed either."""
        with tempfile.TemporaryDirectory() as name, engine(self._folder, self._house.speed) as url:
            config = self._prepared(Path(name), url, brownout=brownout)
            with serving(Path(name), "--config", str(config), logs=Path(name)) as gateway:
                return asyncio.run(self._ask_all(gateway.url, load, seconds))

    def _prepared(self, folder: Path, url: str, *, brownout: bool) -> Path:
        key = ApiKey(name="clients", hash=digest_of(KEY), default_tier=self._tiers.names[0])
        add_key(folder / "keys.toml", key)
        settings = (
            f"[overload]\nmax_in_flight_per_replica = {self._house.slots + 2}\nmax_queue = 100000\n"
            f"max_queue_seconds = {self._objective}\n[brownout]\nseconds = {self._objective}\n"
        )
        config = folder / "gateway.toml"
        config.write_text(
            f'families = ["{self._family.resolve()}"]\nchecksums = false\n[[engines]]\nurl = "{url}"\n'
            f'[access]\nkeys_file = "keys.toml"\n[log]\nlevel = "warning"\n{settings if brownout else ""}'
        )
        return config

    async def _ask_all(self, url: str, load: Callable[[float], float], seconds: float) -> Seen:
        draw, names = random.Random(14), self._tiers.names
        rows: list[tuple[float, float, int, bool, bool]] = []
        tasks: set[asyncio.Task[None]] = set()
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)
        headers = {"authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            began = time.monotonic()

            async def ask(number: int, question: str) -> None:
                arrived = time.monotonic() - began
                body = {"model": self._model, "messages": [{"role": "user", "content": question}]}
                name = f"r-{number}"
                async with session.post(
                    f"{url}/v1/chat/completions", json=body, headers={"x-request-id": name}
                ) as answer:
                    await answer.read()
                took = time.monotonic() - began - arrived if answer.status == 200 else np.inf
                tier = names.index(answer.headers["x-alphatier-tier"])
                right, thorough = (self._samples.answer(names[at], question, name).correct for at in (tier, 0))
                rows.append((arrived, took, tier, right, thorough))

            levels: list[list[float]] = []

            async def look() -> None:
                while True:
                    async with session.get(f"{url}/metrics") as answer:
                        text = await answer.text()
                    levels.append([time.monotonic() - began, metric_value(text, "alphatier_brownout_level")])
                    await asyncio.sleep(LOOK_SECONDS)

            looking, number, at = asyncio.create_task(look()), 0, 0.0
            while (at := at + draw.expovariate(self._saturating * load(at))) < seconds:
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                number += 1
                task = asyncio.create_task(ask(number, draw.choice(self._questions)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            late = time.monotonic() - began - at
            await asyncio.gather(*tasks)
            looking.cancel()
        if late > 1:
            raise click.ClickException(
                f"The clients were {late:.1f} s late: the machine is too busy; lower --faster."
            )
        arrived, took, tier, right, thorough = (np.array(column) for column in zip(*rows, strict=True))
        return Seen(arrived, took, tier, right, thorough, np.array(levels))
