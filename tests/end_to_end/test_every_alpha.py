"""A real vLLM answers at alphas that no tier has, and lets go of the least used."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from alphatier_models import GatedAdapter, Tier, directory_sha256, load_family, save_family
from alphatier_models.gated import export
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.settings.gateway import GatewayConfig
from support.fleets import RunningFleet, vllm_fleet
from support.waiting import eventually

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MESSAGES = [{"role": "user", "content": "What is 17 + 25 - 8 + 3?"}]
LARGEST = 0.75


def gated_of(tier: str, folder: Path) -> None:
    """Make the shipped family one with a gated adapter: nothing at alpha 0, the tier's at `LARGEST`.

    The adapter of alpha 0.35 is among its tiers too, as `separate`.
    """
    import numpy as np
    from safetensors.numpy import load_file, save_file

    shutil.copytree(SHIPPED, folder)
    config = json.loads((SHIPPED / tier / "adapter_config.json").read_text())
    rank, tensors = config["r"], {}
    for name, turned in load_file(SHIPPED / tier / "adapter_model.safetensors").items():
        axis = 0 if ".lora_A." in name else 1
        tensors[name] = np.ascontiguousarray(np.concatenate([np.zeros_like(turned), turned], axis))
        if axis:
            gate = np.stack([np.ones(rank, np.float32), np.zeros(rank, np.float32)])
            tensors[name.replace(".lora_B.weight", ".lora_gate")] = gate
    gated, separate = folder / "turned", folder / "separate"
    gated.mkdir()
    save_file(tensors, gated / "adapter_model.safetensors", {"format": "pt"})
    doubled = config | {"r": 2 * rank, "lora_alpha": 2 * config["lora_alpha"]}
    (gated / "adapter_config.json").write_text(json.dumps(doubled))
    (gated / "gate.json").write_text(json.dumps({"largest": LARGEST}))
    separate.mkdir()
    export(gated, 0.35, separate)
    family = load_family(folder)
    listed = Tier(name="separate", layout="adapter", path="separate", sha256=directory_sha256(separate))
    adapter = GatedAdapter(path="turned", sha256=directory_sha256(gated), largest=LARGEST)
    save_family(family.model_copy(update={"tiers": (*family.tiers, listed), "gated": adapter}), folder)


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
    gated_of("alpha-0.4", folder)
    config = GatewayConfig(alphas=AlphaSettings(keep=2, wait_seconds=60))
    async with vllm_fleet(tmp_path, folder, config) as running:
        models = ["tiny:alpha-0.35", "tiny:alpha-0.75"] * 4
        answers = await asyncio.gather(*(answer(running, model) for model in models))
        assert [answer[:2] for answer in answers] == [("alpha-0.35", "explicit"), ("alpha-0.75", "explicit")] * 4
        separate = (await answer(running, "tiny:separate"))[2]
        assert {said for tier, _, said in answers if tier == "alpha-0.35"} == {separate}
        terse = (await answer(running, "tiny:alpha-0.4"))[2]
        assert {said for tier, _, said in answers if tier == "alpha-0.75"} == {terse}
        assert separate != terse

        await answer(running, "tiny:alpha-0.36")
        assert (await answer(running, "tiny:alpha-0.64"))[:2] == ("alpha-0.65", "explicit")
        await eventually(lambda: "has unloaded tiny:alpha-0.75" in " ".join(running.reported), 30)
        assert (await answer(running, "tiny:alpha-0.35"))[2] == separate
        assert "has unloaded tiny:alpha-0.35" not in " ".join(running.reported)
        assert running.failures == []
