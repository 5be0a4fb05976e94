"""Deadlines through the gateway, in front of an engine of known pace that answers with a family's own samples.

    PYTHONPATH=tests python -m benchmarks.deadlines runs/evaluate/NAME                              # ten minutes
    PYTHONPATH=tests python -m benchmarks.deadlines runs/evaluate/NAME --requests 50 --faster 2     # one

Requests that name no tier come at random moments, each with a deadline (`deadline_ms`) between too short for any tier
and long enough for all, at 0.2, 0.5 and 0.9 of the rate at which the engine is saturated by the most accurate tier.
Goals: 95 % of the accepted ones are in time, and as many are right in time as 90 % of what an oracle reaches that
knows when each tier's answer would have been complete and takes the most accurate one that is in time. Beside it each
tier by itself, by the same knowledge. All finishing times are those of the engine as busy as it was.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import aiohttp
import httpx
from rich.console import Console
from rich.table import Table

from alphatier_models import Family, load_family
from alphatier_server.gateway.expect import measured
from benchmarks.paced_engine import Samples, Speed, Step, finish
from support.gateway import metric_value
from support.processes import free_port, serving, until

TESTS = Path(__file__).parents[1]
LOADS = (0.2, 0.5, 0.9)
GOALS = {"in time": 95.0, "of oracle": 90.0}
EDGES = ("1.0", "1.1")
"""Real over expected seconds."""
SLOTS = 16
WARM_SECONDS = 10.0
SPEED = Speed(0.08, 0.003, 0.2)
"""Of vLLM with models/tiny on two busy cores: a token took 82, 80, 88, 121 and 152 ms with 1, 4, 8, 16 and 24 in
flight, the first one 0.27 s."""


class Asked(NamedTuple):
    """One request, and what came of it."""

    number: int
    question: str
    began: float
    deadline: float
    status: int
    tier: str = ""
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, help="A folder of `alphatier evaluate`, of problems held out.")
    parser.add_argument("--family", type=Path, default=TESTS.parent / "models" / "tiny")
    parser.add_argument("--requests", type=int, default=250, help="Of each load, after 10 seconds of warming.")
    parser.add_argument("--faster", type=float, default=1.0, help="Times faster than the measured engine.")
    parser.add_argument("--streamed", type=float, default=0.5, help="Share of the requests that are streams.")
    given = parser.parse_args()
    family = load_family(given.family, checksums=False)
    speed = Speed(*(seconds / given.faster for seconds in SPEED))
    samples = Samples.read(given.samples, [tier.name for tier in family.tiers])
    table = Table(title=f"a step takes {speed.base:g} s + {speed.each:g} s for each in flight, {SLOTS} at most")
    columns = (
        "load",
        "asked",
        "refused",
        "in time %",
        "goal",
        "right %",
        "oracle %",
        "of oracle %",
        "goal",
        *(f"≤ {edge} %" for edge in EDGES),
    )
    for column in (*columns, "best tier alone %", "chosen"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name, engine(given.samples, speed) as url:
        config = Path(name) / "gateway.toml"
        config.write_text(
            f'families = ["{given.family.resolve()}"]\nchecksums = false\n[[engines]]\nurl = "{url}"\n'
            '[log]\nlevel = "warning"\n'
        )
        for load in LOADS:
            with serving(Path(name), "--config", str(config), logs=Path(name)) as gateway:
                run = Run(family, samples, speed, load, given.requests, given.streamed, gateway.url, url)
                asked = asyncio.run(run.asked())
                steps = [Step(*step) for step in httpx.get(f"{url}/steps", timeout=60).json()]
                table.add_row(*run.row(asked, steps, gateway.metrics()))
    Console(width=200).print(table)


@contextmanager
def engine(samples: Path, speed: Speed) -> Iterator[str]:
    """In a process of its own."""
    port = free_port()
    options = ["--port", str(port), "--slots", str(SLOTS), "--samples", str(samples)]
    options += [word for name in Speed._fields for word in (f"--{name}", str(getattr(speed, name)))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.paced_engine", *options], env=environment, text=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), 120, process=process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


class Run:
    """One load."""

    def __init__(
        self,
        family: Family,
        samples: Samples,
        speed: Speed,
        load: float,
        requests: int,
        streamed: float,
        gateway: str,
        engine: str,
    ) -> None:
        self._family = family
        self._samples = samples
        self._speed = speed
        self._load = load
        self._requests = requests
        self._streamed = streamed
        self._gateway = gateway
        self._engine = engine
        self._tiers = [one for one in measured(family) if one.tier in samples.answers]
        """The most accurate first."""
        self._draw = random.Random(14)

    async def asked(self) -> list[Asked]:
        questions = sorted(self._samples.answers[self._tiers[0].tier])
        saturated = SLOTS / self._speed.step(SLOTS) / self._tiers[0].tokens
        busy = self._speed.step(SLOTS)
        shortest = 0.8 * (self._speed.prefill + self._speed.step(1) * min(one.p90 for one in self._tiers))
        longest = 1.5 * (self._speed.prefill + busy * max(one.p90 for one in self._tiers))
        found: list[Asked] = []
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            began = at = time.monotonic()
            number, left = 0, self._requests
            while left:
                at += self._draw.expovariate(saturated * self._load)
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                number, left = number + 1, left - (at >= began + WARM_SECONDS)
                deadline = exp(self._draw.uniform(log(shortest), log(longest)))
                asking = self._ask(session, number, self._draw.choice(questions), deadline, found)
                task = asyncio.create_task(asking)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return [one for one in found if one.began >= began + WARM_SECONDS]

    async def _ask(
        self, session: aiohttp.ClientSession, number: int, question: str, deadline: float, found: list[Asked]
    ) -> None:
        body = {
            "model": self._family.name,
            "messages": [{"role": "user", "content": question}],
            "deadline_ms": 1000 * deadline,
            "stream": self._draw.random() < self._streamed,
        }
        began = time.monotonic()
        headers = {"x-request-id": f"r-{number}"}
        async with session.post(f"{self._gateway}/v1/chat/completions", json=body, headers=headers) as answer:
            whole = await answer.read()
        status = 504 if b'"deadline_exceeded"' in whole else answer.status
        tier, seconds = answer.headers.get("x-alphatier-tier", ""), time.monotonic() - began
        found.append(Asked(number, question, began, deadline, status, tier, seconds))

    def row(self, asked: Sequence[Asked], steps: Sequence[Step], metrics: str) -> list[str]:
        accepted = [one for one in asked if one.status in (200, 504)]
        in_time = [one for one in accepted if one.status == 200]
        odd = len(asked) - len(accepted) - sum(one.status == 400 for one in asked)
        assert not odd, f"{odd} requests had other errors"
        right = sum(self._right(one, one.tier) for one in in_time)
        order = [one.tier for one in self._tiers]
        oracle, alone = 0, dict.fromkeys(order, 0)
        for one in asked:
            fits = [tier for tier in order if self._in_time(one, tier, steps)]
            oracle += bool(fits) and self._right(one, fits[0])
            for tier in fits:
                alone[tier] += self._right(one, tier)
        best, tiers = max(order, key=lambda tier: alone[tier]), [one.tier for one in accepted]
        names = "alphatier_deadline_duration_ratio_bucket", "alphatier_deadline_duration_ratio_count"
        count = max(1.0, metric_value(metrics, names[1]))
        covered = [100 * metric_value(metrics, names[0], le=edge) / count for edge in EDGES]
        return [
            f"{self._load:g}",
            str(len(asked)),
            str(len(asked) - len(accepted)),
            f"{100 * len(in_time) / max(1, len(accepted)):.1f}",
            f"{GOALS['in time']:g}",
            f"{100 * right / len(asked):.1f}",
            f"{100 * oracle / len(asked):.1f}",
            f"{100 * right / max(1, oracle):.1f}",
            f"{GOALS['of oracle']:g}",
            *(f"{share:.1f}" for share in covered),
            f"{100 * alone[best] / len(asked):.1f} ({best})",
            ", ".join(f"{tier} {100 * tiers.count(tier) / max(1, len(tiers)):.0f}" for tier in order),
        ]

    def _right(self, one: Asked, tier: str) -> bool:
        return self._samples.answer(tier, one.question, f"r-{one.number}").correct

    def _in_time(self, one: Asked, tier: str, steps: Sequence[Step]) -> bool:
        tokens = self._samples.answer(tier, one.question, f"r-{one.number}").tokens
        return finish(steps, self._speed, one.began, tokens) <= one.began + one.deadline


if __name__ == "__main__":
    main()
