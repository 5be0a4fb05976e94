"""Engines come, drain and go while the gateway runs, and their health is watched."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from alphatier_models import directory_sha256
from alphatier_server.errors import EngineError, UnknownEngine
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.replicas import PoolSettings
from support.certificates import self_signed
from support.fake_engine import FakeEngine, completion, error, fake_engine
from support.fleets import (
    QUICK,
    VLLM,
    NewFleet,
    RunningFleet,
    by_url,
    change_tier,
    remove_tier,
    running_fleet,
    texts,
)
from support.waiting import eventually

# --- the settings change ----------------------------------------------------------------------------


async def test_engines_that_the_settings_add_or_drop_come_and_go(fleet: NewFleet, engines: list[FakeEngine]) -> None:
    one, other = engines
    async with fleet([by_url(one)], wait=[one.replica]) as running:
        await running.fleet.apply([by_url(one), by_url(other)])
        await running.up(one.replica, other.replica)
        for _ in range(20):
            assert (await running.ask("toy:terse"))[0] == 200
        assert one.bodies
        assert other.bodies
        await running.fleet.apply([by_url(other)])
        await eventually(lambda: list(running.states()) == [other.address])
        assert (await running.ask("toy:terse"))[0] == 200


async def test_the_last_engine_of_before_stays_until_a_new_one_answers(
    fleet: NewFleet, engines: list[FakeEngine]
) -> None:
    (one, _) = engines
    nobody = EngineSettings(url="http://127.0.0.1:9")
    async with fleet([by_url(one)], wait=[one.replica]) as running:
        await running.fleet.apply([nobody])
        await eventually(lambda: "does not answer yet" in " ".join(running.reported))
        assert (await running.ask("toy:terse"))[0] == 200
        assert running.states()["127.0.0.1:9"] == "loading"


async def test_replicas_of_an_engine_that_runs_here_are_added_and_removed(running: RunningFleet) -> None:
    await running.fleet.apply([EngineSettings(kind="vllm", replicas=3)])
    await running.up("toy-vllm", "toy-vllm-2", "toy-vllm-3")
    async with running.post("toy:terse", stream=True) as stream:
        await running.fleet.apply([VLLM])
        running.finish_streams()
        await texts(stream)
    await eventually(lambda: running.states() == {"toy-vllm": "up"})


@pytest.mark.parametrize("change", [{"arguments": ["--seed", "1"]}, {"priority": True}])
async def test_other_arguments_mean_a_new_engine_before_the_old_one_goes(
    change: dict[str, Any], running: RunningFleet
) -> None:
    async with running.post("toy:terse", stream=True) as stream:
        await running.fleet.apply([VLLM.model_copy(update=change)])
        await eventually(lambda: running.states() == {"toy-vllm": "draining", "toy-vllm~2": "up"})
        assert (await running.ask("toy:terse"))[0] == 200
        running.finish_streams()
        await texts(stream)
    await eventually(lambda: running.states() == {"toy-vllm~2": "up"})


async def test_settings_that_cannot_be_planned_change_nothing(fleet: NewFleet, engines: list[FakeEngine]) -> None:
    one, other = engines
    async with fleet([by_url(one)], wait=[one.replica]) as running:
        for wrong in ([by_url(other), by_url(other)], [by_url(other, api_key_env="NO_SUCH_KEY")]):
            with pytest.raises(EngineError):
                await running.fleet.apply(wrong)
        assert list(running.states()) == [one.address]


async def test_an_engine_that_never_starts_ends_the_gateway_unless_others_serve_its_tiers(fleet: NewFleet) -> None:
    broken = EngineSettings(kind="vllm", arguments=["--max-lora-rank", "not-a-number"])
    async with fleet([broken]) as running:
        await eventually(lambda: running.failures, 30)
        assert "does not start: " in str(running.failures[0])
    async with fleet([VLLM], wait=["toy-vllm"]) as running:
        await running.fleet.apply([broken])
        await eventually(lambda: "failed" in running.states().values(), 30)
        assert running.failures == []
        assert running.states()["toy-vllm"] == "up"
        assert (await running.ask("toy:terse"))[0] == 200


async def test_every_engine_gets_its_own_key_and_no_other(fleet: NewFleet, engines: list[FakeEngine]) -> None:
    one, other = engines
    settings = [by_url(one, api_key_env="ONE_KEY"), by_url(other)]
    keys = {"ONE_KEY": "sk-one"}
    names = [one.replica, other.replica]
    async with fleet(settings, wait=names, environment=keys) as running:
        for _ in range(20):
            await running.ask("toy:terse")
        assert {headers.get("authorization") for headers in one.headers} == {"Bearer sk-one"}
        assert {headers.get("authorization") for headers in other.headers} == {None}
        assert "sk-one" not in str(running.fleet.status()) + str(running.pool.replicas) + str(running.reported)


# --- draining ---------------------------------------------------------------------------------------


async def test_a_drained_engine_ends_what_it_has_begun_and_is_removed(fleet: NewFleet, toy: Path) -> None:
    settings = EngineSettings(kind="vllm", replicas=2)
    async with fleet([settings], wait=["toy-vllm", "toy-vllm-2"]) as running:
        streams = [await running.post("toy:terse", stream=True) for _ in range(2)]  # one each
        running.fleet.drain("toy-vllm")
        streams += [await running.post("toy:terse", stream=True) for _ in range(4)]
        assert running.states() == {"toy-vllm": "draining", "toy-vllm-2": "up"}
        assert running.pool.in_flight("toy-vllm") == 1
        running.finish_streams()
        for stream in streams:
            await texts(stream)
        await eventually(lambda: running.states() == {"toy-vllm-2": "up"})
        # nor does another change of the family bring it back: somebody has removed it on purpose
        change_tier(toy, "terse", "new")
        await running.fleet.load_family(toy)
        assert list(running.states()) == ["toy-vllm-2"]
        with pytest.raises(UnknownEngine):
            running.fleet.drain("toy-vllm")


async def test_a_drain_ends_at_its_limit(fleet: NewFleet) -> None:
    settings = QUICK.model_copy(update={"drain_limit": 0.3})
    async with fleet([VLLM], settings, wait=["toy-vllm"]) as running:
        async with running.post("toy:terse", stream=True) as stream:
            running.fleet.drain("toy-vllm")
            await eventually(lambda: running.states() == {})
            assert b"engine_failed" in await stream.read()  # an error event, not silence
        assert (await running.ask("toy:terse"))[0] == 503


async def test_with_workers_a_drain_waits_for_what_all_of_them_have_open(fleet: NewFleet) -> None:
    elsewhere = {"toy-vllm": 1}
    asked = []

    def busy(name: str, _model: str | None) -> int:
        asked.append(name)
        return elsewhere[name]

    async with fleet([VLLM], wait=["toy-vllm"], busy=busy) as running:
        running.fleet.drain("toy-vllm")
        await eventually(lambda: len(asked) > 5)
        assert running.states() == {"toy-vllm": "draining"}
        elsewhere["toy-vllm"] = 0
        await eventually(lambda: running.states() == {})


# --- health -----------------------------------------------------------------------------------------


async def test_an_engine_that_says_it_is_unwell_gets_no_requests_until_it_is_well(running: RunningFleet) -> None:
    (running.folder / "unwell").touch()
    await eventually(lambda: not running.pool.ready())
    assert (await running.ask("toy:terse"))[0] == 503
    value = running.metrics.registry.get_sample_value
    assert value("alphatier_replica_ejections_total", {"replica": "toy-vllm", "by": "health"}) == 1
    assert value("alphatier_health_check_failures_total", {"replica": "toy-vllm"}) >= QUICK.unhealthy_after  # type: ignore[operator]
    (running.folder / "unwell").unlink()
    await running.up("toy-vllm")
    assert (await running.ask("toy:terse"))[0] == 200
    assert sum(event.startswith("start") for event in running.events()) == 1


async def test_an_engine_that_is_unwell_for_long_is_started_again(fleet: NewFleet) -> None:
    settings = QUICK.model_copy(update={"restart_after": 0.5})
    async with fleet([VLLM], settings, wait=["toy-vllm"]) as running:
        (running.folder / "unwell").touch()
        await eventually(lambda: "does not answer; ending it" in " ".join(running.reported))
        (running.folder / "unwell").unlink()
        await running.up("toy-vllm")
        assert sum(event.startswith("start") for event in running.events()) == 2


async def test_an_engine_by_url_that_stops_answering_is_taken_out_and_found_again(
    fleet: NewFleet, engines: list[FakeEngine]
) -> None:
    settings = PoolSettings(health_interval=0.05, health_timeout=0.2, unhealthy_after=3)
    (engine, _) = engines
    async with fleet([by_url(engine)], settings, wait=[engine.replica]) as running:
        engine.listing = error(503, b"")
        await eventually(lambda: not running.pool.ready())
        engine.listing = None
        await running.up(engine.replica)


async def test_an_engine_by_https_is_believed_only_if_the_operators_ca_vouches_for_it(
    fleet: NewFleet, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path / "engine", "engine")
    other, _ = self_signed(tmp_path / "other", "other")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with fake_engine(completion(), tls) as engine:
        settings = EngineSettings(url=engine.url, name="far")
        async with fleet([settings], wait=["toy@far"], ca_file=certificate):
            pass
        async with fleet([settings], ca_file=other) as running:
            await eventually(lambda: "does not answer yet" in " ".join(running.reported))
            assert not running.pool.ready()


# --- adapters of engines by URL ---------------------------------------------------------------------


async def test_an_engine_by_url_may_be_told_to_load_adapters(fleet: NewFleet, tmp_path: Path, toy: Path) -> None:
    old = directory_sha256(toy / "terse")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with running_fleet(elsewhere, [toy], [VLLM], wait=["toy-vllm"]) as engine:
        address = engine.fleet.status()[0]["url"]
        remote = EngineSettings(url=address, name="far", load_adapters=True)
        key = engine.engine_environment()["VLLM_API_KEY"]
        async with fleet([remote], wait=["toy@far"], default_key=key) as running:
            async with running.post("toy:terse", stream=True) as stream:
                new = change_tier(toy, "terse", "new")
                await running.fleet.load_family(toy)
                assert await running.ask("toy:terse") == (200, new)
                engine.finish_streams()
                assert set(await texts(stream)) == {old}
            await eventually(lambda: f"unload toy:terse@{old[:8]}" in engine.events())
            added = change_tier(toy, "extra", "extra")
            await running.fleet.load_family(toy)
            assert await running.ask("toy:extra") == (200, added)
            remove_tier(toy, "extra")
            await running.fleet.load_family(toy)
            await eventually(lambda: f"unload toy:extra@{added[:8]}" in engine.events())
