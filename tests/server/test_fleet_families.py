"""Tiers and families come, change and go while requests run, on engines that are started here."""

from pathlib import Path

import psutil
import pytest

from alphatier_models import FamilyError, Tier, directory_sha256, load_family, save_family
from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import EngineSettings
from support.families import small_family
from support.fleets import NewFleet, RunningFleet, change_tier, remove_tier, texts, write_adapter
from support.waiting import eventually


async def test_a_tier_is_replaced_while_a_stream_on_the_old_weights_runs_to_its_end(
    toy: Path, running: RunningFleet
) -> None:
    old = directory_sha256(toy / "terse")
    assert await running.ask("toy:terse") == (200, old)
    async with running.post("toy:terse", stream=True) as stream:
        new = change_tier(toy, "terse", "better weights")
        await running.fleet.load_family(toy)
        assert await running.ask("toy:terse") == (200, new)
        assert "unload toy:terse" not in running.events()
        running.finish_streams()
        assert set(await texts(stream)) == {old}
    await eventually(lambda: "unload toy:terse" in running.events())
    assert await running.ask("toy:terse") == (200, new)
    assert f"load toy:terse@{new[:8]}" in running.events()
    assert sum(event.startswith("start") for event in running.events()) == 1


async def test_a_tier_is_added_and_removed(toy: Path, running: RunningFleet) -> None:
    assert (await running.ask("toy:extra"))[0] == 404
    added = change_tier(toy, "extra", "extra weights")
    await running.fleet.load_family(toy)
    assert await running.ask("toy:extra") == (200, added)
    assert (
        running.metrics.registry.get_sample_value(
            "alphatier_completion_tokens_total",
            {"family": "toy", "tier": "extra", "endpoint": "chat/completions"},
        )
        is not None
    )
    async with running.post("toy:extra", stream=True) as stream:
        remove_tier(toy, "extra")
        await running.fleet.load_family(toy)
        status, message = await running.ask("toy:extra")
        assert status == 404
        assert "there are base, careful, terse" in message
        running.finish_streams()
        assert set(await texts(stream)) == {added}
    await eventually(lambda: "unload toy:extra" in running.events())


async def test_weights_that_come_back_are_never_mixed_up(toy: Path, running: RunningFleet) -> None:
    for text in ("one", "two", "terse", "one"):  # "terse" are the first weights
        checksum = change_tier(toy, "terse", text)
        await running.fleet.load_family(toy)
        assert await running.ask("toy:terse") == (200, checksum)


async def test_an_adapter_of_too_high_a_rank_changes_nothing(toy: Path, running: RunningFleet) -> None:
    old = directory_sha256(toy / "terse")
    change_tier(toy, "added", "fine")
    change_tier(toy, "terse", "wide", rank=64)
    with pytest.raises(EngineError, match="rank 64, and engine toy-vllm was started for rank 16"):
        await running.fleet.load_family(toy)
    assert await running.ask("toy:terse") == (200, old)
    assert (await running.ask("toy:added"))[0] == 404


async def test_what_one_replica_cannot_load_changes_no_replica(fleet: NewFleet, toy: Path) -> None:
    settings = EngineSettings(kind="vllm", replicas=2)
    async with fleet([settings], wait=["toy-vllm", "toy-vllm-2"]) as running:
        old = directory_sha256(toy / "terse")
        new = change_tier(toy, "terse", "new")
        refuse = running.folder / "refuse-second"
        refuse.touch()
        with pytest.raises(EngineError, match=r"toy-vllm-2 did not load toy:terse@.*no room"):
            await running.fleet.load_family(toy)
        assert {(await running.ask("toy:terse"))[1] for _ in range(20)} == {old}
        await eventually(lambda: f"unload toy:terse@{new[:8]}" in running.events())
        refuse.unlink()
        await running.fleet.load_family(toy)
        assert {(await running.ask("toy:terse"))[1] for _ in range(20)} == {new}


async def test_a_folder_that_is_still_being_written_changes_nothing(
    tmp_path: Path, toy: Path, running: RunningFleet
) -> None:
    write_adapter(toy, "terse", "not what family.json says")
    with pytest.raises(FamilyError, match="checksum"):
        await running.fleet.load_family(toy)
    with pytest.raises(FamilyError, match="no such file"):
        await running.fleet.load_family(tmp_path / "nowhere")
    assert (await running.ask("toy:terse"))[0] == 200


async def test_an_engine_that_crashes_comes_back_with_the_tiers_of_now(toy: Path, running: RunningFleet) -> None:
    new = change_tier(toy, "terse", "new")
    added = change_tier(toy, "extra", "added at run time")
    await running.fleet.load_family(toy)
    write_adapter(toy, "terse", "half written")  # the folder changes again, and nobody has said so
    for process in psutil.Process().children(recursive=True):
        if "fake_vllm" in " ".join(process.cmdline()[:2]):
            process.kill()
    await eventually(lambda: not running.pool.ready())
    await running.up("toy-vllm")
    assert await running.ask("toy:terse") == (200, new)
    assert await running.ask("toy:extra") == (200, added)


async def test_a_checkpoint_tier_is_replaced_by_a_new_engine_and_the_old_one_drains(
    toy: Path, running: RunningFleet
) -> None:
    def checkpoint(text: str) -> None:
        full = toy / "full"
        full.mkdir(exist_ok=True)
        (full / "config.json").write_text(text)
        family = load_family(toy, checksums=False)
        tiers = [tier for tier in family.tiers if tier.name != "full"]
        tier = Tier(name="full", layout="checkpoint", path="full", sha256=directory_sha256(full), alpha=0.1)
        save_family(family.model_copy(update={"tiers": (*tiers, tier)}), toy)

    checkpoint("{}")
    await running.fleet.load_family(toy)
    assert await running.ask("toy:full") == (200, "base")
    async with running.post("toy:full", stream=True) as stream:
        checkpoint('{"other": 1}')
        await running.fleet.load_family(toy)
        assert running.states() == {"toy-vllm": "up", "toy-full-vllm": "draining", "toy-full-vllm~2": "up"}
        assert await running.ask("toy:full") == (200, "base")
        running.finish_streams()
        assert set(await texts(stream)) == {"base"}
    await eventually(lambda: running.states() == {"toy-vllm": "up", "toy-full-vllm~2": "up"})


async def test_a_family_is_added_and_removed(tmp_path: Path, toy: Path, running: RunningFleet) -> None:
    small_family(tmp_path / "tiny", "tiny")
    await running.fleet.apply_families([toy, tmp_path / "tiny"])
    assert (await running.ask("tiny:terse"))[0] == 200
    async with running.post("tiny:terse", stream=True) as stream:
        await running.fleet.apply_families([toy])
        assert (await running.ask("tiny:terse"))[0] == 404
        assert (await running.ask("toy:terse"))[0] == 200
        running.finish_streams()
        assert len(set(await texts(stream))) == 1
    await eventually(lambda: running.states() == {"toy-vllm": "up"})
