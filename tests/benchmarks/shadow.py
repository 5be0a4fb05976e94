"""What shadow finds on the shipped family, and how wide its intervals are after so many comparisons.

    python tests/benchmarks/shadow.py SAMPLES [--requests 2000] [--tier alpha-0.4 --tier base] 2>/dev/null

SAMPLES is a folder of samples that `alphatier evaluate` or a run has kept, several for each problem. An engine that
answers with them, one after the other, stands behind a gateway whose every request is drawn, so that each is held
against another sample of the reference tier. /admin/shadow is printed beside the goal.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.shadow import ShadowSettings
from support.fake_engine import fake_engine
from support.fleets import RunningFleet, by_url, running_fleet

FAMILY = Path(__file__).parents[2] / "models" / "tiny"
AT_ONCE = 8
GOAL = 0.02

Samples = dict[tuple[str, str], Iterator[dict[str, Any]]]
"""Of a tier and a question, for ever."""


def read(folder: Path) -> Samples:
    """The samples of all tiers."""
    found: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(folder.glob("*.jsonl")):
        with file.open() as lines:
            tier = json.loads(next(lines))["plan"]["tier"]
            for row in map(json.loads, lines):
                found[tier, row["question"]].append(row)
    return {key: cycle(rows) for key, rows in found.items()}


async def main(samples: Samples, requests: int, tiers: list[str]) -> None:
    """Measure and print a table."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        row = next(samples[body["model"].removeprefix("tiny:"), body["messages"][-1]["content"]])
        usage = {"prompt_tokens": 20, "completion_tokens": row["tokens"], "total_tokens": 20 + row["tokens"]}
        choice = {"index": 0, "message": {"role": "assistant", "content": row["response"]}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": usage})

    shadow = ShadowSettings(share=1.0, tokens_per_hour=10**9, max_in_flight=4 * AT_ONCE, max_engine_in_flight=64)
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:secret"})
    config = GatewayConfig(shadow=shadow)
    questions = [question for tier, question in samples if tier == "base"]
    questions = random.Random(14).sample(questions, min(requests, len(questions)))
    with tempfile.TemporaryDirectory() as folder:
        async with fake_engine(answer) as engine:
            engine.models = tuple(f"tiny:{tier}" for tier in {tier for tier, _ in samples})
            wait = [f"tiny@{engine.address}"]
            async with running_fleet(
                Path(folder), [FAMILY], [by_url(engine)], wait=wait, config=config, access=access
            ) as running:
                print(f"{len(questions)} requests a tier; the goal is an interval of at most ± {GOAL:.0%}")
                print("| tier | compared | agree | ± | goal | tokens saved | ± | goal | tokens of both | skipped |")
                print("|---|---|---|---|---|---|---|---|---|---|")
                for tier in tiers:
                    await asked(running, tier, questions)
                    print(row_of(await report(running, tier)), flush=True)


async def asked(running: RunningFleet, tier: str, questions: list[str]) -> None:
    """Ask all of them, some at once, and wait for the comparisons."""
    left = iter(questions)

    async def ask() -> None:
        for question in left:
            async with running.post(f"tiny:{tier}", messages=[{"role": "user", "content": question}]) as response:
                assert response.status == 200, await response.text()
                await response.read()

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    while True:  # what runs last ends soon
        counted = await report(running, tier)
        if counted["answers"] + sum(counted["skipped"].values()) == len(questions):
            return
        await asyncio.sleep(0.1)


async def report(running: RunningFleet, tier: str) -> dict[str, Any]:
    headers = {"authorization": "Bearer secret"}
    async with running.http.get(f"{running.url}/admin/shadow", headers=headers) as response:
        rows = (await response.json())["data"]
    return next((row for row in rows if row["tier"] == tier), {"answers": 0, "skipped": {}})


def row_of(found: dict[str, Any]) -> str:
    cells = [found["tier"], str(found["answers"])]
    for figure in (found["agreement"], found["saving"]):
        half = (figure["high"] - figure["low"]) / 2
        cells += [f"{figure['mean']:.1%}", f"{half:.2%}", "reached" if half <= GOAL else "missed"]
    tokens = found["mean_tokens"]
    return "| " + " | ".join([*cells, f"{tokens['answer']}, {tokens['reference']}", str(found["skipped"])]) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, metavar="SAMPLES")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--tier", action="append", dest="tiers", default=None)
    options = parser.parse_args()
    asyncio.run(main(read(options.samples), options.requests, options.tiers or ["alpha-0.4", "base"]))
