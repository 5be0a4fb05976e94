"""Keys of engines: who gets which, what a key may hold, and that none is shown."""

import os
from pathlib import Path

import aiohttp
import pytest

from alphatier_server.engines.plan import plan_engines
from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import EngineSettings
from support.fake_engine import completion, fake_engine
from support.families import small_family
from support.fleets import VLLM, NewFleet, RunningFleet, change_tier


async def test_an_engine_that_runs_here_gets_none_of_the_gateways_secrets(fleet: NewFleet) -> None:
    secrets = {
        "ALPHATIER_API_KEYS": "alice:s3cr3t-1",
        "ALPHATIER_ADMIN_KEYS": "root:s3cr3t-2",
        "ALPHATIER_REDIS_URL": "redis://:s3cr3t-3@host",
        "ALPHATIER_ENGINE_API_KEY": "s3cr3t-4",
        "FAR_KEY": "s3cr3t-5",
    }
    environment = {**os.environ, **secrets, "HF_HOME": "/models"}
    async with fake_engine(completion()) as far:
        engines = [VLLM, EngineSettings(url=far.url, api_key_env="FAR_KEY")]
        async with fleet(engines, wait=["toy-vllm"], environment=environment) as running:
            given = running.engine_environment()
            assert given["HF_HOME"] == "/models"
            assert "s3cr3t" not in str(given)
            assert not secrets.keys() & given.keys()
            # nor once the settings name it no more
            await running.fleet.apply([EngineSettings(kind="vllm", arguments=["--seed", "1"])])
            await running.up("toy-vllm~2")
            assert "s3cr3t" not in str(running.engine_environment())


async def test_a_vllm_that_runs_here_answers_this_gateway_only(toy: Path, running: RunningFleet) -> None:
    url = running.fleet.status()[0]["url"]
    adapter = {"lora_name": "evil", "lora_path": "/etc"}
    async with aiohttp.ClientSession() as stranger:
        for key in ({}, {"authorization": "Bearer guess"}):
            async with stranger.post(f"{url}/v1/load_lora_adapter", json=adapter, headers=key) as refused:
                assert refused.status == 401
        async with stranger.get(f"{url}/health") as health:
            assert health.status == 200
    new = change_tier(toy, "terse", "new")
    await running.fleet.load_family(toy)  # the gateway itself may load adapters, and ask
    assert await running.ask("toy:terse") == (200, new)


async def test_every_start_of_a_vllm_has_another_key_which_nothing_shows(running: RunningFleet) -> None:
    first = running.engine_environment()["VLLM_API_KEY"]
    await running.fleet.apply([EngineSettings(kind="vllm", arguments=["--seed", "1"])])
    await running.up("toy-vllm~2")
    second = running.engine_environment()["VLLM_API_KEY"]
    assert first != second
    assert len(second) >= 32
    shown = f"{running.fleet.status()} {running.reported} {running.pool.replicas}"
    assert second not in shown
    assert (await running.ask("toy:terse"))[0] == 200


@pytest.mark.parametrize("arguments", [["--api-key", "sk"], ["--api-key=sk"]])
def test_a_key_among_the_arguments_is_refused_as_the_gateway_would_not_know_it(
    tmp_path: Path, arguments: list[str]
) -> None:
    with pytest.raises(EngineError, match="gets a key of its own"):
        plan_engines(small_family(tmp_path), tmp_path, "vllm", work=tmp_path, arguments=arguments)


@pytest.mark.parametrize("key", ["sécret", "secret\r\nx-admin: yes", "secret\n", "sec ret", "\U0001f511secret"])
async def test_a_key_that_no_header_can_hold_is_refused_wherever_it_comes_from_and_not_shown(
    fleet: NewFleet, key: str
) -> None:
    far = EngineSettings(url="http://127.0.0.1:9", name="far", api_key_env="FAR_KEY")
    refused: list[str] = []
    async with fleet([], environment={"FAR_KEY": key}) as running:
        with pytest.raises(EngineError, match="no HTTP header can hold") as by_variable:
            await running.fleet.apply([far])
        with pytest.raises(EngineError, match="no HTTP header can hold") as by_administrator:
            await running.fleet.add(far.model_copy(update={"api_key_env": None}), api_key=key)
        assert running.states() == {}
    with pytest.raises(EngineError, match="no HTTP header can hold") as by_option:
        async with fleet([], default_key=key):
            pass
    refused = [str(by.value) for by in (by_variable, by_administrator, by_option)]
    assert "FAR_KEY" in refused[0]
    assert "--engine-api-key" in refused[2]
    assert not any("cret" in text for text in refused)
