"""The shipped family on a real vLLM: answers compared beside the clients', a new version tried and promoted."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from alphatier_models import load_family
from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.shadow import ShadowSettings
from support.fleets import RunningFleet, vllm_fleet
from support.waiting import eventually

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ADMIN = {"authorization": "Bearer secret"}


async def ask(running: RunningFleet, number: int, **fields: Any) -> str:
    """The version that answered."""
    question = f"What is {number + 10} + {number + 30} - {number}?"
    messages = [{"role": "user", "content": question}]
    async with running.post("tiny:alpha-0.4", messages=messages, temperature=0.6, **fields) as response:
        assert response.status == 200, await response.text()
        await response.read()
        return str(response.headers["x-alphatier-version"])


async def test_answers_are_compared_and_a_new_version_takes_a_tiers_place(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "tiny")
    config = GatewayConfig(shadow=ShadowSettings(share=1.0, max_in_flight=100, max_engine_in_flight=200))
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:secret"})
    async with vllm_fleet(tmp_path, tmp_path / "tiny", config, access=access) as running:

        async def admin(method: str, path: str, body: Any = None) -> Any:
            url = f"{running.url}/admin/{path}"
            async with running.http.request(method, url, json=body, headers=ADMIN) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        trial = {"tier": "alpha-0.4", "version": "alpha-0.8", "share": 0.5}
        await admin("PUT", "families/tiny/canary", trial)
        answered = await asyncio.gather(*(ask(running, number, stream=number % 2 == 0) for number in range(40)))
        assert 8 <= answered.count("alpha-0.8") <= 32
        await eventually(lambda: sum(running.metrics.shadow_answers.values().values()) == 40, 120)
        rows = {row["tier"]: row for row in (await admin("GET", "shadow"))["data"]}
        assert rows["alpha-0.8"]["answers"] == answered.count("alpha-0.8")
        assert all(row["agreement"]["mean"] > 0.5 < row["saving"]["mean"] for row in rows.values()), rows
        (both,) = (await admin("GET", "canary"))["data"]
        assert both["canary"]["tokens"]["mean"] < 12  # it answers at once
        assert both["stable"]["requests"] + both["canary"]["requests"] == 40

        before = load_family(tmp_path / "tiny")
        await admin("POST", "families/tiny/canary/promote")
        after = load_family(tmp_path / "tiny")
        assert after.tier("alpha-0.4").identity == before.tier("alpha-0.8").identity
        messages = [{"role": "user", "content": "What is 17 + 25 - 8?"}]
        async with running.post("tiny:alpha-0.4", messages=messages, temperature=0) as response:
            assert (await response.json())["usage"]["completion_tokens"] <= 8
            assert "x-alphatier-version" not in response.headers
        assert running.failures == []
