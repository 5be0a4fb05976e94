"""A real vLLM answers at alphas that no tier has, and lets go of the least used."""

import asyncio
import shutil
from pathlib import Path

import pytest

from alphatier_models import Tier, directory_sha256, load_family, save_family
from alphatier_models.gated import export
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.settings.gateway import GatewayConfig
from support.fleets import RunningFleet, vllm_fleet
from support.waiting import eventually

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MESSAGES = [{"role": "user", "content": "What is 17 + 25 - 8 + 3 + 20 - 9?"}]


def with_one_exported(folder: Path) -> None:
    """The shipped family, with the adapter of alpha 0.1 among its tiers too, as `separate`."""
    shutil.copytree(SHIPPED, folder)
    family, separate = load_family(folder), folder / "separate"
    assert family.gated
    separate.mkdir()
    export(folder / family.gated.path, 0.1, separate)
    listed = Tier(name="separate", layout="adapter", path="separate", sha256=directory_sha256(separate))
    save_family(family.model_copy(update={"tiers": (*family.tiers, listed)}), folder)


async def answer(running: RunningFleet, model: str) -> tuple[str, str, str]:
    """Tier, decision, and what was said."""
    async with running.post(model, messages=MESSAGES, temperature=0, max_tokens=200) as response:
        assert response.status == 200, await response.text()
        message = (await response.json())["choices"][0]["message"]
        headers = response.headers
    said = f"{message.get('reasoning')} {message['content']}"
    return headers["x-alphatier-tier"], headers["x-alphatier-decision"], said


async def test_alphas_that_no_tier_has_come_and_go_on_a_running_vllm(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    with_one_exported(folder)
    config = GatewayConfig(alphas=AlphaSettings(keep=2, wait_seconds=60))
    async with vllm_fleet(tmp_path, folder, config) as running:
        models = [*["tiny:alpha-0.1"] * 4, "tiny:alpha-0.6"]
        answers = await asyncio.gather(*(answer(running, model) for model in models))
        assert [answer[:2] for answer in answers] == [*[("alpha-0.1", "explicit")] * 4, ("alpha-0.6", "explicit")]
        separate = (await answer(running, "tiny:separate"))[2]
        assert {said for tier, _, said in answers if tier == "alpha-0.1"} == {separate}
        assert {said for tier, _, said in answers if tier == "alpha-0.6"} != {separate}

        await answer(running, "tiny:alpha-0.11")
        async with asyncio.timeout(60):  # room is made for what is asked for more often than the least used one
            while (await answer(running, "tiny:alpha-0.64"))[:2] != ("alpha-0.65", "explicit"):
                pass
        await eventually(lambda: "has unloaded tiny:alpha-0.6 " in " ".join(running.reported) + " ", 30)
        assert (await answer(running, "tiny:alpha-0.1"))[2] == separate
        assert "has unloaded tiny:alpha-0.1" not in " ".join(running.reported)
        assert running.failures == []
