"""A family with a gated adapter answers at every alpha: made, loaded, unloaded while requests run."""

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web

from alphatier_models import EFFORTS, load_family, save_family
from alphatier_models.vllm import hold_free_port
from alphatier_server.engines.exported import Exported
from alphatier_server.engines.plan import plan_engines
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.tier_metrics import saved_share
from alphatier_server.keys.access import build_access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.settings.gateway import GatewayConfig, LimitSettings
from alphatier_server.settings.overload import OverloadSettings
from support.fake_engine import completion, events, fake_engine
from support.families import gated_family
from support.fleets import (
    FAKE_VLLM,
    VLLM,
    NewFleet,
    RunningFleet,
    by_url,
    change_tier,
    exported,
    running_fleet,
    texts,
)
from support.keys import key_file
from support.processes import serving
from support.waiting import eventually


def alphas(**settings: Any) -> GatewayConfig:
    return GatewayConfig(alphas=AlphaSettings(**settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the test's own with the family `toy`, which has alphas 0 (careful), 0.4 (terse) and all others."""
    gated_family(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def gateway(tmp_path: Path, folder: Path) -> NewFleet:
    return partial(running_fleet, tmp_path, [folder])


@pytest.fixture
async def running(gateway: NewFleet) -> AsyncIterator[RunningFleet]:
    """A gateway with one vLLM, which keeps two adapters beside the tiers' own."""
    async with gateway([VLLM], wait=["toy-vllm"], config=alphas(keep=2)) as running:
        yield running


def loads(running: RunningFleet) -> list[str]:
    return [event for event in running.events() if event.startswith("load ")]


async def test_an_alpha_is_rounded_made_loaded_and_answered(running: RunningFleet) -> None:
    assert await running.alpha("toy:alpha-0.37") == ("alpha-0.35", "explicit")
    assert await running.alpha("toy:alpha-0.35") == ("alpha-0.35", "explicit")
    assert await running.alpha("toy", efficiency_tier="alpha-0.8") == ("alpha-0.8", "explicit")
    assert loads(running) == ["load toy:alpha-0.35", "load toy:alpha-0.8"]


async def test_a_tier_that_has_the_alpha_answers_itself(running: RunningFleet) -> None:
    assert await running.alpha("toy:alpha-0.39") == ("terse", "explicit")
    assert await running.alpha("toy:alpha-0") == ("careful", "explicit")
    assert loads(running) == []


async def test_efficiency_is_a_share_of_the_measured_tokens(running: RunningFleet) -> None:
    # alpha 0 has 80 tokens, alpha 0.4 has 40: half of the way are 60, which lie at alpha 0.2
    assert await running.alpha("toy", efficiency=0.5) == ("alpha-0.2", "explicit")
    assert await running.alpha("toy", efficiency=0) == ("careful", "explicit")
    assert await running.alpha("toy", efficiency=1, reasoning_effort="max") == ("terse", "explicit")
    assert await running.alpha("toy:alpha-0.2", efficiency=0.5) == ("alpha-0.2", "explicit")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"model": "toy:terse", "efficiency": 0.5}, 400, "model says 'terse', but efficiency says 'alpha-0.2'"),
        ({"model": "toy:alpha-0.3", "efficiency_tier": "alpha-0.2"}, 400, "Contradiction"),
        ({"efficiency": 1.5}, 400, "efficiency must be from 0 to 1"),
        ({"efficiency": "0.5"}, 400, "efficiency must be a number"),
        ({"efficiency": True}, 400, "efficiency must be a number"),
        ({"model": "toy:alpha-0.81"}, 404, "and alpha-X for any X from 0 to 0.8"),
        ({"model": "toy:alpha--0.1"}, 404, "there are base, careful, terse, auto"),
        ({"model": "toy:alpha-1e-3"}, 404, "there are base"),
    ],
)
async def test_what_names_no_alpha_is_refused(
    running: RunningFleet, fields: dict[str, object], status: int, said: str
) -> None:
    fields = {"model": "toy", **fields}
    async with running.post(str(fields.pop("model")), **fields) as response:
        assert response.status == status
        assert said in (await response.json())["error"]["message"]
    assert loads(running) == []


async def test_many_who_ask_at_once_share_one_load(running: RunningFleet) -> None:
    asked = [running.alpha(f"toy:alpha-{alpha}") for alpha in ("0.1", "0.6") * 10]
    answers = await asyncio.gather(*asked)
    assert answers == [("alpha-0.1", "explicit"), ("alpha-0.6", "explicit")] * 10
    assert sorted(loads(running)) == ["load toy:alpha-0.1", "load toy:alpha-0.6"]


async def insist(running: RunningFleet, alpha: str) -> None:
    """Ask for it until it answers itself."""

    async def answers() -> bool:
        return await running.alpha(f"toy:{alpha}") == (alpha, "explicit")

    await eventually(answers)


def exported_tiers(running: RunningFleet) -> list[str]:
    return [tier.name for tier in running.fleet.families["toy"].tiers][3:]


async def test_many_alphas_asked_for_once_take_no_place_of_those_used_again_and_again(running: RunningFleet) -> None:
    for alpha in ("alpha-0.1", "alpha-0.6") * 3:
        assert await running.alpha(f"toy:{alpha}") == (alpha, "explicit")
    several = [f"alpha-{step * 0.05:g}" for step in range(1, 16) if step not in (2, 8, 12)]
    for _ in range(2):
        answers = await asyncio.gather(*(running.alpha(f"toy:{alpha}") for alpha in several))
        assert {decision for _, decision in answers} == {"fallback"}
    assert exported_tiers(running) == ["alpha-0.1", "alpha-0.6"]
    assert len(loads(running)) == 2


async def test_what_is_used_more_than_twice_as_much_takes_the_place_of_the_least_used(running: RunningFleet) -> None:
    for alpha in ("0.1", "0.6", "0.1", "0.1", "0.6"):
        await running.alpha(f"toy:alpha-{alpha}")
    assert await running.alpha("toy:alpha-0.7") == ("alpha-0.6", "fallback")
    await insist(running, "alpha-0.7")
    await eventually(lambda: "unload toy:alpha-0.6" in running.events())
    assert "unload toy:alpha-0.1" not in running.events()
    assert exported_tiers(running) == ["alpha-0.1", "alpha-0.7"]
    assert running.reported.count("family toy was changed: +alpha-0.7 -alpha-0.6") == 1
    assert running.metrics.alpha_requests.values()["toy", "alpha-0.7"] >= 5


def test_uses_of_long_ago_keep_no_place(folder: Path) -> None:
    metrics = Metrics()
    exported, family = Exported(1, metrics), load_family(folder)
    family = family.model_copy(update={"tiers": (*family.tiers, family.at_alpha(0.1))})
    metrics.alpha_requests.labels("toy", "alpha-0.1").inc(100)
    metrics.alpha_requests.labels("toy", "alpha-0.7").inc(3)
    assert exported.beside(family, family.at_alpha(0.7)) is None
    for _ in range(7):
        exported.halve()
    assert exported.beside(family, family.at_alpha(0.7)) is None  # all counted less, alike
    metrics.alpha_requests.labels("toy", "alpha-0.7").inc(2)
    assert exported.beside(family, family.at_alpha(0.7)) == []


async def test_none_goes_while_a_request_uses_it(gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"], config=alphas(keep=1)) as running:
        async with running.post("toy:alpha-0.1", stream=True) as stream:
            assert stream.headers["x-alphatier-tier"] == "alpha-0.1"
            for _ in range(5):
                assert await running.alpha("toy:alpha-0.7") == ("terse", "fallback")
                assert await running.alpha("toy:alpha-0.2") == ("alpha-0.1", "fallback")
            running.finish_streams()
            assert "UNLOADED" not in await texts(stream)
        assert "unload toy:alpha-0.1" not in running.events()
        assert running.metrics.alpha_loads.values()["toy", "alpha-0.7", "no_room"] >= 1
        await insist(running, "alpha-0.7")


async def test_a_load_that_fails_gives_the_nearest_tier_and_is_not_tried_at_once_again(gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"]) as running:
        (running.folder / "refuse").touch()
        for _ in range(2):
            answers = await asyncio.gather(*(running.alpha("toy:alpha-0.3") for _ in range(5)))
            assert answers == [("terse", "fallback")] * 5
        assert loads(running) == ["load toy:alpha-0.3"]
        await eventually(lambda: not any(running.metrics.in_flight.values().values()))
        assert await running.alpha("toy:terse") == ("terse", "explicit")
        assert running.fleet.families["toy"] == load_family(running.folder / "toy")


async def test_a_load_that_hangs_keeps_nobody_longer_than_was_set(gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"], config=alphas(keep=2, wait_seconds=0.2)) as running:
        hang = running.folder / "hang"
        hang.touch()
        answers = await asyncio.gather(*(running.alpha(f"toy:alpha-{alpha}") for alpha in ("0.1", "0.3", "0.1")))
        assert answers == [("careful", "fallback"), ("terse", "fallback"), ("careful", "fallback")]
        hang.unlink()
        await eventually(lambda: running.pool.serves("toy", "alpha-0.1"))
        assert await running.alpha("toy:alpha-0.1") == ("alpha-0.1", "explicit")


async def test_nobody_waits_where_the_operator_wants_the_nearest(gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"], config=alphas(wait_seconds=0)) as running:
        assert await running.alpha("toy:alpha-0.3") == ("terse", "fallback")
        await eventually(lambda: running.pool.serves("toy", "alpha-0.3"))
        assert await running.alpha("toy:alpha-0.3") == ("alpha-0.3", "explicit")


async def test_a_client_that_leaves_while_it_waits_leaves_the_load_to_the_next(running: RunningFleet) -> None:
    hang = running.folder / "hang"
    hang.touch()
    asking = asyncio.create_task(running.alpha("toy:alpha-0.3"))
    await eventually(lambda: loads(running))
    asking.cancel()
    await eventually(lambda: running.metrics.in_flight.values()["toy", "alpha-0.3"] == 0)
    hang.unlink()
    assert await running.alpha("toy:alpha-0.3") == ("alpha-0.3", "explicit")
    assert loads(running) == ["load toy:alpha-0.3"]


async def test_a_deadline_ends_the_wait(running: RunningFleet) -> None:
    (running.folder / "hang").touch()
    body = {"model": "toy:alpha-0.3", "messages": []}
    headers = {"x-request-timeout": "0.3"}
    async with running.http.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status == 504
    (running.folder / "hang").unlink()


async def test_one_that_had_to_go_comes_back(gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"], config=alphas(keep=1)) as running:
        for alpha in ("alpha-0.1", "alpha-0.7", "alpha-0.1"):
            await insist(running, alpha)
            assert await running.alpha(f"toy:{alpha}") == (alpha, "explicit")
        evicted = running.metrics.alpha_evictions.values()
        assert evicted == {("toy", "alpha-0.1"): 1, ("toy", "alpha-0.7"): 1}
        assert running.metrics.alphas_loaded.values() == {("toy",): 1}
        assert running.metrics.alpha_loads.values()["toy", "alpha-0.1", "loaded"] == 2
        assert running.metrics.alpha_fallbacks.values()["toy", "alpha-0.7"] >= 1


async def test_a_load_that_hangs_holds_up_nothing_else(folder: Path, gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"]) as running:
        (running.folder / "hang").write_text("alpha-0.3")
        hanging = asyncio.create_task(running.alpha("toy:alpha-0.3"))
        await eventually(lambda: loads(running))
        assert await running.alpha("toy:alpha-0.6") == ("alpha-0.6", "explicit")
        change_tier(folder, "new", "new")
        await running.fleet.load_family(folder)
        assert (await running.ask("toy:new"))[0] == 200
        async with fake_engine(completion()) as engine:
            name = await running.fleet.add(by_url(engine))
            await running.up(engine.replica)
            await running.fleet.remove(name)
        assert not hanging.done()
        (running.folder / "hang").unlink()
        assert await hanging == ("alpha-0.3", "explicit")
        assert exported_tiers(running)[1:] == ["alpha-0.6", "alpha-0.3"]


async def test_an_engine_that_crashes_comes_back_with_the_alphas(running: RunningFleet) -> None:
    import psutil

    await running.alpha("toy:alpha-0.3")
    for process in psutil.Process().children(recursive=True):
        if "fake_vllm" in " ".join(process.cmdline()[:2]):
            process.kill()
    await eventually(lambda: not running.pool.ready())
    await running.up("toy-vllm")
    assert await running.alpha("toy:alpha-0.3") == ("alpha-0.3", "explicit")


async def test_the_family_is_read_again_and_keeps_its_alphas(folder: Path, running: RunningFleet) -> None:
    await running.alpha("toy:alpha-0.3")
    family = load_family(folder)
    save_family(family.model_copy(update={"default_tier": "terse"}), folder)
    await running.fleet.load_family(folder)
    assert await running.alpha("toy") == ("terse", "default")
    assert await running.alpha("toy:alpha-0.3") == ("alpha-0.3", "explicit")
    assert loads(running) == ["load toy:alpha-0.3"]


async def test_engines_that_take_no_adapters_answer_with_the_nearest_tier(folder: Path, gateway: NewFleet) -> None:
    async with (
        fake_engine(completion()) as engine,
        gateway([by_url(engine)], wait=[engine.replica]) as running,
        running.post("toy:alpha-0.3") as response,
    ):
        assert response.status == 200
        assert response.headers["x-alphatier-tier"] == "terse"
        assert response.headers["x-alphatier-decision"] == "fallback"
        assert running.fleet.families["toy"] == load_family(folder)


async def test_what_is_loaded_and_waits_for_a_change_to_end_is_not_unloaded(folder: Path, gateway: NewFleet) -> None:
    async with gateway([VLLM], wait=["toy-vllm"]) as running, running.post("toy:careful", stream=True) as stream:
        change_tier(folder, "careful", "other weights")
        await running.fleet.load_family(folder)  # what the stream runs on is to go from now on
        (running.folder / "hang").write_text("new")
        change_tier(folder, "new", "new")
        changing = asyncio.create_task(running.fleet.load_family(folder))
        await eventually(lambda: "load toy:new" in running.events())
        asking = asyncio.create_task(running.alpha("toy:alpha-0.6"))
        await eventually(lambda: "load toy:alpha-0.6" in running.events())
        (running.folder / "hang").unlink()
        await changing
        assert await asking == ("alpha-0.6", "explicit")
        assert "unload toy:alpha-0.6" not in running.events()
        running.finish_streams()
        assert "UNLOADED" not in await texts(stream)


async def test_what_waits_for_a_slot_keeps_its_alpha_unless_the_family_loses_it(
    folder: Path, gateway: NewFleet
) -> None:
    config = alphas(keep=1).model_copy(update={"overload": OverloadSettings(max_in_flight=1)})
    async with gateway([VLLM], wait=["toy-vllm"], config=config) as running:
        await running.alpha("toy:alpha-0.1")
        async with running.post("toy:base", stream=True) as stream:
            waiting = asyncio.create_task(running.alpha("toy:alpha-0.1"))
            several = [asyncio.create_task(running.alpha("toy:alpha-0.7")) for _ in range(5)]
            await eventually(lambda: running.metrics.queued.values()["normal",] == 6)
            assert exported_tiers(running) == ["alpha-0.1"]
            save_family(load_family(folder).model_copy(update={"gated": None}), folder)
            await running.fleet.load_family(folder)
            running.finish_streams()
            await texts(stream)
        assert await waiting == ("careful", "fallback")
        assert await asyncio.gather(*several) == [("terse", "fallback")] * 5


async def test_a_stream_waits_no_longer_than_for_its_first_comment(gateway: NewFleet) -> None:
    limits = LimitSettings(keepalive_seconds=0.2)
    config = GatewayConfig(limits=limits, alphas=AlphaSettings(wait_seconds=1000))
    async with gateway([VLLM], wait=["toy-vllm"], config=config) as running:
        (running.folder / "hang").touch()
        running.finish_streams()
        async with running.post("toy:alpha-0.3", stream=True) as stream:
            assert stream.headers["x-alphatier-decision"] == "fallback"
            assert await texts(stream)
        (running.folder / "hang").unlink()


ASK: Any = [{"role": "user", "content": "What is 3 + 4?"}]
RECORDED = Path(__file__).parent / "data"
CHAT: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1}
TEXT = {"type": "output_text", "text": "7", "annotations": []}
WHOLE: dict[str, dict[str, Any]] = {
    "chat/completions": {**CHAT, "choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}}]},
    "completions": {**CHAT, "choices": [{"index": 0, "text": "7"}]},
    "responses": {
        "id": "r", "object": "response", "created_at": 1, "status": "completed",
        "output": [{"type": "message", "id": "m", "role": "assistant", "content": [TEXT]}],
    },
    "messages": {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "7"}]},
}  # fmt: skip
STREAMED = {
    "chat/completions": b'data: {"choices":[{"index":0,"delta":{"content":"7"}}]}\n\ndata: [DONE]\n\n',
    "completions": b'data: {"choices":[{"index":0,"text":"7"}]}\n\ndata: [DONE]\n\n',
    "responses": (RECORDED / "responses.sse").read_bytes(),
    "messages": (RECORDED / "messages.sse").read_bytes(),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", WHOLE)
async def test_every_api_answers_at_an_alpha_by_its_official_client(
    gateway: NewFleet, api: str, stream: bool
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/load_lora_adapter":
            engine.models = (*engine.models, (await request.json())["lora_name"])
            return web.Response()
        assert request.path == f"/v1/{api}"
        handler = events(STREAMED[api]) if stream else completion(**WHOLE[api], model="x")
        return await handler(request)

    async with (
        fake_engine(answer) as engine,
        gateway([by_url(engine, load_adapters=True)], wait=[engine.replica]) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as sdk,
        anthropic.AsyncAnthropic(base_url=running.url, api_key="none") as claude,
    ):
        call: Any = {
            "chat/completions": partial(sdk.chat.completions.with_raw_response.create, messages=ASK),
            "completions": partial(sdk.completions.with_raw_response.create, prompt="What is 3 + 4?"),
            "responses": partial(sdk.responses.with_raw_response.create, input="What is 3 + 4?"),
            "messages": partial(claude.messages.with_raw_response.create, messages=ASK, max_tokens=50),
        }[api]
        raw = await call(model="toy:alpha-0.3", stream=stream)
        told = {name: raw.headers[f"x-alphatier-{name}"] for name in ("tier", "alpha", "decision")}
        assert told == {"tier": "alpha-0.3", "alpha": "0.3", "decision": "explicit"}
        assert json.loads(engine.bodies[-1])["model"].startswith("toy:alpha-0.3@")
        parsed = raw.parse()
        answered = await parsed if inspect.isawaitable(parsed) else parsed
        parts = [str(part) async for part in answered] if stream else [str(answered)]
        assert "7" in "".join(parts)
        assert "toy:alpha-0.3" in "".join(parts)


async def test_a_key_has_no_alpha_loaded_that_it_may_not_use(tmp_path: Path, gateway: NewFleet) -> None:
    allowed = {"tiers": ["toy:base", "toy:careful", "toy:alpha-0.1", "toy:alpha-0.3"]}
    access = build_access(
        AccessSettings(keys_file=key_file(tmp_path, {"some": "sk-some"}, some=allowed)), environment={}
    )
    async with gateway([VLLM], wait=["toy-vllm"], access=access) as running:
        running.http.headers["authorization"] = "Bearer sk-some"
        async with running.post("toy:alpha-0.2") as response:
            assert response.status == 403
        assert loads(running) == []
        assert await running.alpha("toy:alpha-0.1") == ("alpha-0.1", "explicit")
        (running.folder / "refuse").touch()
        assert await running.alpha("toy:alpha-0.3") == ("alpha-0.1", "fallback")  # terse is nearer, but not the key's


async def test_a_key_that_its_limits_refuse_has_nothing_loaded(tmp_path: Path, gateway: NewFleet) -> None:
    key = key_file(tmp_path, {"some": "sk-some"}, some={"requests_per_minute": 1})
    access = build_access(AccessSettings(keys_file=key), environment={})
    async with gateway([VLLM], wait=["toy-vllm"], access=access) as running:
        running.http.headers["authorization"] = "Bearer sk-some"
        assert await running.alpha("toy:terse") == ("terse", "explicit")
        async with running.post("toy:alpha-0.3") as response:
            assert response.status == 429
        assert loads(running) == []
        assert running.metrics.alpha_requests.values() == {}


async def test_without_numpy_the_operator_is_told_what_to_install(
    running: RunningFleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "alphatier_models.gated", None)
    assert await running.alpha("toy:alpha-0.3") == ("terse", "fallback")
    assert "pip install numpy safetensors" in caplog.text


def test_a_gateway_that_makes_no_adapter_has_no_numpy_in_memory(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import alphatier_server.cli, alphatier_server.process.command;"
        "from alphatier_server.settings.families import load_families;"
        f"load_families([Path({str(folder)!r})], checksums=True);"
        "assert not {'numpy', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_models_say_which_alphas_can_be_had_and_what_is_known_of_them(running: RunningFleet) -> None:
    await running.alpha("toy:alpha-0.3")
    async with running.http.get(f"{running.url}/v1/models") as response:
        cards = {card["id"]: card["alphatier"] for card in (await response.json())["data"]}
    assert list(cards) == ["toy", "toy:auto", "toy:base", "toy:careful", "toy:terse"]
    assert "alphas" not in cards["toy:terse"]
    alphas = cards["toy"]["alphas"]
    between = {known.pop("alpha"): known for known in alphas.pop("between")}
    assert alphas == {"largest": 0.8, "step": 0.05}
    assert list(between) == [round(step * 0.05, 2) for step in range(1, 17) if step != 8]
    assert between[0.1] == {
        "tier": "alpha-0.1",
        "figures": "interpolated",
        "between": ["careful", "terse"],
        "dataset": "chains",
        "accuracy": {"mean": pytest.approx(0.9675), "low": 0.95, "high": 0.98},
        "tokens": {"mean": 70, "low": 39, "high": 81},
    }
    assert between[0.5] == {"tier": "alpha-0.5", "figures": "not measured"}


async def test_an_alpha_between_tiers_is_described_as_what_answers_for_it(running: RunningFleet) -> None:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
        for asked in ("toy:alpha-0.1", "toy:alpha-0.11"):
            card = await client.models.retrieve(asked)
            told: dict[str, Any] = card.alphatier  # type: ignore[attr-defined]
            assert (card.id, told["alpha"], told["figures"]) == ("toy:alpha-0.1", 0.1, "interpolated")
            assert told["tokens"]["mean"] == 70
        assert (await client.models.retrieve("toy:alpha-0.39")).id == "toy:terse"
        with pytest.raises(openai.NotFoundError, match="there are toy, toy:auto"):
            await client.models.retrieve("toy:alpha-0.81")
    assert loads(running) == []


async def test_interpolated_tokens_count_for_savings_and_limits(tmp_path: Path, gateway: NewFleet) -> None:
    key = key_file(
        tmp_path, {"some": "sk-some"}, some={"tokens_per_minute": 1000, "tiers": ["toy:terse", "toy:alpha-0.1"]}
    )
    access = build_access(AccessSettings(keys_file=key), environment={})
    async with gateway([VLLM], wait=["toy-vllm"], access=access) as running:
        running.http.headers["authorization"] = "Bearer sk-some"
        async with running.post("toy:alpha-0.1") as response:
            assert response.headers["x-alphatier-tier"] == "alpha-0.1"
            assert int(response.headers["x-ratelimit-remaining-tokens"]) > 1000 - 80 - 40  # careful's 90th percentile
        for model, status in (("toy:alpha-0.1", 200), ("toy:alpha-0.2", 404)):
            async with running.http.get(f"{running.url}/v1/models/{model}") as response:
                assert response.status == status
        family = running.fleet.families["toy"]
        decision = Decision(family, family.tier("alpha-0.1"), "explicit")
        assert saved_share(decision) == pytest.approx(100 / 70 - 1)  # base has 100 tokens, alpha 0.1 some 70


def test_a_vllm_has_room_for_the_alphas_that_are_kept(folder: Path, tmp_path: Path) -> None:
    family = load_family(folder)
    (spec,) = plan_engines(family, folder, "vllm", work=tmp_path, exported=4)
    command = spec.command(1)
    # on a CPU: two tiers and four others, old weights beside new ones, and one that stays empty
    assert command[command.index("--max-loras") + 1] in ("13", "7")
    assert int(command[command.index("--max-cpu-loras") + 1]) >= 13
    alone = family.model_copy(
        update={
            "tiers": family.tiers[:1],
            "default_tier": "base",
            "efforts": dict.fromkeys(EFFORTS, "base"),
        }
    )
    (spec,) = plan_engines(alone, folder, "vllm", work=tmp_path, exported=4)
    assert "--enable-lora" in spec.command(1)
    assert "--lora-modules" not in spec.command(1)
    assert spec.max_lora_rank == 8


def test_workers_share_the_alphas_of_an_engine_by_url(folder: Path, tmp_path: Path) -> None:
    port, held = hold_free_port()
    command = [sys.executable, str(FAKE_VLLM), "--folder", str(tmp_path), "--port", str(port)]
    engine = subprocess.Popen([*command, "--served-model-name", "toy:base", "--max-lora-rank", "16"])
    settings = tmp_path / "gateway.toml"
    settings.write_text(
        f'families = ["{folder}"]\nworkers = 2\n[[engines]]\nurl = "http://127.0.0.1:{port}"\nload_adapters = true\n'
        "[alphas]\nkeep = 1\n[replicas]\nhealth_interval = 0.2\n"
    )
    try:
        with serving(tmp_path, "--config", str(settings), logs=tmp_path) as served:
            served.wait_for_tier("terse")

            def tier(model: str) -> str:
                body = {"model": model, "messages": []}
                answer = http.post(f"{served.url}/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                answered = answer.headers["x-alphatier-tier"]
                if answered == model[4:]:
                    assert answer.json()["choices"][0]["message"]["content"] == exported(folder, float(model[10:]))
                return answered

            def comes(alpha: str) -> bool:
                return tier(f"toy:{alpha}") == alpha

            with httpx.Client(timeout=60) as http, ThreadPoolExecutor(8) as clients:
                for alpha in ("alpha-0.1", "alpha-0.7", "alpha-0.1"):
                    asyncio.run(eventually(partial(comes, alpha)))
                    assert set(clients.map(tier, [f"toy:{alpha}"] * 16)) == {alpha}
            unloaded = [line for line in (tmp_path / "events").read_text().splitlines() if "unload" in line]
            assert [line.partition("@")[0] for line in unloaded][:1] == ["unload toy:alpha-0.1"]
            assert served.metric("alphatier_alpha_evictions_total", tier="alpha-0.1") == 1
            assert served.metric("alphatier_alpha_requests_total", tier="alpha-0.1") >= 32
            assert served.metric("alphatier_alphas_loaded") == 1
    finally:
        engine.terminate()
        engine.wait()
        held.close()
