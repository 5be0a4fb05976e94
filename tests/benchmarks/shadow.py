"""What shadow finds on the shipped family, and how wide its intervals are after so many comparisons.

    python tests/benchmarks/shadow.py [--requests 2000] [--tier alpha-0.4 --tier base]

A real vLLM serves models/tiny behind a gateway whose every request is drawn. Built-in sums of the held-out split are
asked at the family's temperature, and /admin/shadow is printed beside the goal.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.shadow import ShadowSettings
from alphatier_training.builtin import generate
from support.fleets import RunningFleet, vllm_fleet

FAMILY = Path(__file__).parents[2] / "models" / "tiny"
AT_ONCE = 8
GOAL = 0.02


async def main(requests: int, tiers: list[str]) -> None:
    """Measure and print a table."""
    shadow = ShadowSettings(
        share=1.0, tokens_per_hour=10**9, max_in_flight=4 * AT_ONCE, max_engine_in_flight=8 * AT_ONCE
    )
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:secret"})
    problems = generate(requests, seed=14, split="heldout")
    with tempfile.TemporaryDirectory() as folder:
        async with vllm_fleet(Path(folder), FAMILY, GatewayConfig(shadow=shadow), access=access) as running:
            print(f"{requests} requests a tier; the goal is an interval of at most ± {GOAL:.0%}")
            print("| tier | compared | agree | ± | goal | tokens saved | ± | goal | tokens of both | skipped |")
            print("|---|---|---|---|---|---|---|---|---|---|")
            for tier in tiers:
                await asked(running, tier, [problem.question for problem in problems])
                print(row(await report(running, tier)), flush=True)


async def asked(running: RunningFleet, tier: str, questions: list[str]) -> None:
    """Ask all of them, some at once, and wait for the comparisons."""
    left = iter(questions)

    async def ask() -> None:
        for question in left:
            messages = [{"role": "user", "content": question}]
            async with running.post(f"tiny:{tier}", messages=messages, temperature=0.6, top_p=0.95) as response:
                assert response.status == 200, await response.text()
                await response.read()

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    while True:  # what runs last ends soon
        counted = await report(running, tier)
        if counted["answers"] + sum(counted["skipped"].values()) == len(questions):
            return
        await asyncio.sleep(0.5)


async def report(running: RunningFleet, tier: str) -> dict[str, Any]:
    async with running.http.get(
        f"{running.url}/admin/shadow", headers={"authorization": "Bearer secret"}
    ) as response:
        rows = (await response.json())["data"]
    return next((row for row in rows if row["tier"] == tier), {"answers": 0, "skipped": {}})


def row(found: dict[str, Any]) -> str:
    cells = [found["tier"], str(found["answers"])]
    for figure in (found["agreement"], found["saving"]):
        half = (figure["high"] - figure["low"]) / 2
        cells += [f"{figure['mean']:.1%}", f"{half:.2%}", "reached" if half <= GOAL else "missed"]
    tokens = found["mean_tokens"]
    return "| " + " | ".join([*cells, f"{tokens['answer']}, {tokens['reference']}", str(found["skipped"])]) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--tier", action="append", dest="tiers", default=None)
    options = parser.parse_args()
    asyncio.run(main(options.requests, options.tiers or ["alpha-0.4", "base"]))
