"""How often an engine finds a conversation's prefix in its cache: round robin, two choices, affinity.

    python tests/benchmarks/prefix_affinity.py [--replicas 2] [--conversations 48] [--turns 6]

Real vLLM replicas serve the shipped family; a gateway for each policy stands in front of the same engines.
All conversations go on at once, and each grows by a question and the engine's own answer, turn by turn. The
hit rate is vLLM's own: prefix_cache_hits_total / prefix_cache_queries_total, in prompt tokens.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_server.accelerator.protocol import accelerated_protocol
from alphatier_server.app import AppSettings, Parts, assemble
from alphatier_server.engines.plan import plan_engines
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Lease, Pool, Replica
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.replicas import PoolSettings
from support.fleets import RunningFleet, running_fleet
from support.gateway import metric_value
from support.waiting import eventually

FAMILY = Path(__file__).parents[2] / "models" / "tiny"
TIERS = ("base", "alpha-0", "alpha-0.4")
READING_SECONDS = 2.0
"""Mean time between an answer and the next question. Were it short beside the engines' time to answer, the least busy
replica would mostly be the one that has just answered, and two choices would look like affinity."""
ANSWER_TOKENS = 12
# Small blocks (the smallest on a CPU), as these conversations are short: vLLM caches whole blocks only.
ENGINE_ARGUMENTS = ["--block-size", "32"]


class Counted(Pool):
    """A pool that remembers how many requests each replica got."""

    def lease(
        self, family: str, tier: str, body: Mapping[str, Any], avoid: Collection[str] = (), weight: int = 1
    ) -> Lease:
        lease = super().lease(family, tier, body, avoid, weight)
        self.shares[lease.replica.name] += 1
        return lease

    @cached_property
    def shares(self) -> Counter[str]:
        """Replica -> requests."""
        return Counter()


class RoundRobin(Counted):
    """One replica after another, as most load balancers do it."""

    _turn = 0

    def _choose(self, candidates: Sequence[Replica], model: str, body: Mapping[str, Any]) -> Replica:
        self._turn += 1
        return candidates[self._turn % len(candidates)]


POLICIES: dict[str, Callable[[], Counted]] = {
    "round robin": lambda: RoundRobin(Metrics()),
    "two choices": lambda: Counted(Metrics()),
    "affinity": lambda: Counted(Metrics(), PoolSettings(affinity="prefix")),
}


async def main(replicas: int, conversations: int, turns: int) -> None:
    """Measure every policy and print a table."""
    settings = EngineSettings(kind="vllm", replicas=replicas, arguments=ENGINE_ARGUMENTS)
    names = ["tiny-vllm", *(f"tiny-vllm-{number}" for number in range(2, replicas + 1))]
    with tempfile.TemporaryDirectory() as folder:
        async with running_fleet(
            Path(folder), [FAMILY], [settings], PoolSettings(), wait=names, planner=plan_engines, patience=600
        ) as running:
            print(f"{replicas} vLLM replicas, {conversations} conversations of {turns} turns")
            print("| policy | prompt tokens | found in the cache | hit rate | requests by replica |")
            print("|---|---|---|---|---|")
            for seed, (policy, make) in enumerate(POLICIES.items()):
                print(await measured(running, policy, make(), seed, conversations, turns), flush=True)


async def measured(
    running: RunningFleet, policy: str, pool: Counted, seed: int, conversations: int, turns: int
) -> str:
    """One row of the table."""
    pool.restore(running.pool.snapshot())
    before = await cache_counters(running)
    shares = await converse(running, pool, seed, conversations, turns)
    after = await cache_counters(running)
    queries, hits = after[0] - before[0], after[1] - before[1]
    return f"| {policy} | {queries:.0f} | {hits:.0f} | {hits / queries:.1%} | {' '.join(map(str, shares))} |"


async def converse(running: RunningFleet, pool: Counted, seed: int, conversations: int, turns: int) -> list[int]:
    """Hold the conversations through a gateway with this pool. Returns how many requests each replica had."""
    settings = AppSettings()
    application = assemble(settings, Parts(running.fleet.families, pool, Metrics()))
    protocol = accelerated_protocol(application.gateway, application.dialects, settings.clients)
    config = uvicorn.Config(application.app, port=0, http=protocol, ws="none", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/chat/completions"
    try:
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(
                *(conversation(http, url, random.Random(1000 * seed + n), turns) for n in range(conversations))
            )
    finally:
        server.should_exit = True
        await serving
    return [pool.shares[replica.name] for replica in pool.replicas]


async def conversation(http: aiohttp.ClientSession, url: str, chance: random.Random, turns: int) -> None:
    """One conversation, from its first question to its last answer."""
    model = f"tiny:{chance.choice(TIERS)}"
    messages: list[dict[str, str]] = []
    for turn in range(turns):
        await asyncio.sleep(chance.expovariate(1 / READING_SECONDS))
        messages.append({"role": "user", "content": question(chance, 24 if turn == 0 else 5)})
        body = {"model": model, "messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0}
        async with http.post(url, json=body) as response:
            document = await response.json()
            assert response.status == 200, document
        message = document["choices"][0]["message"]
        messages.append({"role": "assistant", "content": message["content"] or message.get("reasoning") or ""})


def question(chance: random.Random, numbers: int) -> str:
    """A sum; each number and sign is about four tokens."""
    return " + ".join(str(chance.randrange(10, 100)) for _ in range(numbers))


async def cache_counters(running: RunningFleet) -> tuple[float, float]:
    """Prompt tokens looked up and found, over all engines."""
    queries = hits = 0.0
    for engine in running.fleet.status():
        async with running.http.get(f"{engine['url']}/metrics") as response:
            text = await response.text()
        queries += metric_value(text, "vllm:prefix_cache_queries_total")
        hits += metric_value(text, "vllm:prefix_cache_hits_total")
    return queries, hits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--conversations", type=int, default=48)
    parser.add_argument("--turns", type=int, default=6)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.replicas, chosen.conversations, chosen.turns))
