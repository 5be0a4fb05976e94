"""A real vLLM whose adapters come, change and go while it runs, and come back after a crash."""

import asyncio
import json
import shutil
from pathlib import Path

import psutil
import pytest

from alphatier_models import load_family, save_family
from support.fleets import RunningFleet, vllm_fleet
from support.processes import START_SECONDS
from support.waiting import eventually

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LONG = {"temperature": 0, "ignore_eos": True, "max_tokens": 400, "stream": True}
STREAM_EVERY = 0.3
"""Seconds between two streams; each takes more than one."""


def point_tier_at(folder: Path, tier: str, weights: str) -> None:
    """Let the tier have the weights of another one."""
    family = load_family(folder, checksums=False)
    source = family.tier(weights)
    changed = [
        known.model_copy(update={"path": source.path, "sha256": source.sha256}) if known.name == tier else known
        for known in family.tiers
    ]
    if tier not in [known.name for known in family.tiers]:
        changed.append(source.model_copy(update={"name": tier}))
    save_family(family.model_copy(update={"tiers": tuple(changed)}), folder)


def drop_tier(folder: Path, tier: str) -> None:
    family = load_family(folder, checksums=False)
    kept = tuple(known for known in family.tiers if known.name != tier)
    efforts = {effort: "base" if name == tier else name for effort, name in family.efforts.items()}
    save_family(family.model_copy(update={"tiers": kept, "efforts": efforts}), folder)


async def text(running: RunningFleet, model: str) -> str:
    """All that a long greedy stream says; its end must be clean."""
    async with running.post(model, **LONG) as response:
        assert response.status == 200, await response.text()
        raw = await response.read()
    assert raw.rstrip().endswith(b"data: [DONE]"), raw[-300:]
    return spoken(raw)


def spoken(raw: bytes) -> str:
    said = ""
    for line in raw.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                said += choice["delta"].get("reasoning") or choice["delta"].get("content") or ""
    return said


async def test_adapters_change_under_a_running_vllm_and_survive_its_crash(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(SHIPPED, folder)
    async with vllm_fleet(tmp_path, folder) as running:
        careful, terse = await text(running, "tiny:alpha-0"), await text(running, "tiny:alpha-0.4")
        assert careful != terse

        # replaced, while streams run
        point_tier_at(folder, "alpha-0.4", "alpha-0")
        async with running.post("tiny:alpha-0.4", **LONG) as before:
            assert before.status == 200  # the old weights are chosen
            loading = asyncio.create_task(running.fleet.load_family(folder))
            during = []
            while not loading.done():
                during.append(asyncio.create_task(text(running, "tiny:alpha-0.4")))
                await asyncio.wait([loading], timeout=STREAM_EVERY)
            await loading
            assert await text(running, "tiny:alpha-0.4") == careful
            assert spoken(await before.read()) == terse
        assert {*await asyncio.gather(*during)} <= {terse, careful}  # never both in one
        await eventually(lambda: "unloaded tiny:alpha-0.4" in " ".join(running.reported))

        # added and removed
        for added in ("twin", "spare"):
            point_tier_at(folder, added, "alpha-0")
        await running.fleet.load_family(folder)
        assert {await text(running, added) for added in ("tiny:twin", "tiny:spare")} == {careful}
        drop_tier(folder, "spare")
        await running.fleet.load_family(folder)
        async with running.post("tiny:spare") as response:
            assert response.status == 404

        # killed
        for process in psutil.Process().children(recursive=True):
            if "api_server.entry" in " ".join(process.cmdline()) and "guard" not in " ".join(process.cmdline()):
                process.kill()
        await eventually(lambda: not running.pool.ready())
        await running.up("tiny-vllm", seconds=START_SECONDS)
        assert {await text(running, tier) for tier in ("tiny:twin", "tiny:alpha-0.4")} == {careful}
        assert running.failures == []
