"""Canary: a share of a tier's requests goes to a new version of it, which is promoted or rolled back."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from alphatier_models import load_family
from alphatier_server.engines.canary import judge
from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.canary import CanarySettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.shadow import ShadowSettings
from support.fake_engine import Handler, completion, events, fake_engine
from support.families import small_family
from support.fleets import VLLM, NewFleet, RunningFleet, by_url
from support.keys import key_file
from support.processes import serving, until
from support.raw_engine import RawRequest, raw_engine, whole
from support.waiting import eventually

ADMIN = {"authorization": "Bearer the-key-of-root"}
HALF = {"tier": "careful", "version": "terse", "share": 0.5}


def answer(tier: str, **of_terse: Any) -> dict[str, Any]:
    """A whole answer of 20 tokens; `of_terse` is what is different in those of the new version."""
    said: dict[str, Any] = {"finish": "stop", "tokens": 20, "text": "\\boxed{4}"} | (
        of_terse if tier == "terse" else {}
    )
    message = {"role": "assistant", "content": said["text"]}
    usage = {"prompt_tokens": 5, "completion_tokens": said["tokens"], "total_tokens": 5 + said["tokens"]}
    choice = {"index": 0, "message": message, "finish_reason": said["finish"]}
    return {"model": f"toy:{tier}", "choices": [choice], "usage": usage}


def versions(**of_terse: Any) -> Handler:
    async def answers(request: web.Request) -> web.Response:
        tier = (await request.json())["model"].removeprefix("toy:")
        if tier == "terse" and (status := of_terse.get("status")):
            return web.Response(status=status)
        return web.json_response(answer(tier, **of_terse))

    return answers


@asynccontextmanager
async def canary_of(fleet: NewFleet, handler: Handler, **config: Any) -> AsyncIterator[RunningFleet]:
    """A gateway before one engine by URL, with an administrator and anonymous clients."""
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:the-key-of-root"})
    async with fake_engine(handler) as engine:
        settings = GatewayConfig(**config)
        async with fleet([by_url(engine)], wait=[engine.replica], access=access, config=settings) as running:
            yield running


async def admin(running: RunningFleet, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with running.http.request(method, f"{running.url}/admin{path}", json=body, headers=ADMIN) as response:
        return response.status, await response.json()


async def begin(running: RunningFleet, **changes: Any) -> None:
    status, document = await admin(running, "PUT", "/families/toy/canary", {**HALF, **changes})
    assert status == 200, document


async def versions_of(
    running: RunningFleet, prompts: Sequence[str], model: str = "toy:careful", **more: Any
) -> list[str]:
    """Which version answered each; the answer is the tier's, whichever it was."""
    seen = []
    for prompt in prompts:
        async with running.post(model, **{"messages": [{"role": "user", "content": prompt}], **more}) as response:
            assert response.status != 403
            assert response.headers["x-alphatier-tier"] == "careful"
            if response.status == 200 and not more.get("stream"):
                assert (await response.json())["model"] == "toy:careful"
            seen.append(response.headers["x-alphatier-version"])
    return seen


PROMPTS = [f"What is {number} + 1?" for number in range(200)]


async def test_a_share_of_the_tiers_conversations_goes_to_the_new_version(fleet: NewFleet, toy: Path) -> None:
    async with canary_of(fleet, versions()) as running:
        await begin(running, share=0.2)
        first = await versions_of(running, PROMPTS)
        assert 20 <= first.count("terse") <= 60
        # a tier that is chosen by effort, field or default has the same versions, and a conversation keeps its own
        for fields in ({}, {"reasoning_effort": "high"}, {"efficiency_tier": "careful"}):
            assert await versions_of(running, PROMPTS[:20], "toy", **fields) == first[:20]
        later = {"role": "assistant", "content": "2"}, {"role": "user", "content": "yes, go on"}
        turns = [{"role": "user", "content": PROMPTS[first.index("terse")]}, *later]
        assert await versions_of(running, ["-"], messages=turns) == ["terse"]
        # more of them are the same ones and others
        await begin(running, share=0.6)
        more = await versions_of(running, PROMPTS)
        assert {was for was, now in zip(first, more, strict=True) if now == "careful"} == {"careful"}
        # who asks for the new version itself, or another tier, takes no part
        for tier in ("terse", "base"):
            async with running.post(f"toy:{tier}") as response:
                assert response.headers["x-alphatier-tier"] == tier
                assert "x-alphatier-version" not in response.headers
    assert load_family(toy).canary is not None  # so it goes on after a restart


async def test_a_key_for_the_tier_is_a_key_for_its_versions(fleet: NewFleet, tmp_path: Path) -> None:
    file = key_file(
        tmp_path, {"ann": "secret", "root": "the-key-of-root"}, ann={"tiers": ["careful"]}, root={"admin": True}
    )
    async with fake_engine(versions()) as engine:
        access = build_access(AccessSettings(keys_file=file))
        async with fleet([by_url(engine)], wait=[engine.replica], access=access) as running:
            await begin(running, share=1.0)
            running.http.headers["authorization"] = "Bearer secret"
            assert await versions_of(running, PROMPTS[:3]) == ["terse"] * 3
            async with running.post("toy:terse") as response:
                assert response.status == 403


async def test_both_versions_stand_side_by_side_with_intervals(fleet: NewFleet) -> None:
    handler = versions(finish="length", tokens=30, text="no answer")
    async with canary_of(fleet, handler, shadow=ShadowSettings(share=1.0, max_in_flight=100)) as running:
        await begin(running)
        seen = Counter(await versions_of(running, PROMPTS[:40]))
        await eventually(lambda: sum(running.metrics.canary_compared.values().values()) == 40)
        (row,) = (await admin(running, "GET", "/canary"))[1]["data"]
    assert (row["tier"], row["version"], row["share"], row["served"]) == ("careful", "terse", 0.5, True)
    stable, canary = row["stable"], row["canary"]
    assert (stable["requests"], canary["requests"]) == (seen["careful"], seen["terse"])
    assert (stable["tokens"]["mean"], canary["tokens"]["mean"]) == (20, 30)
    assert (stable["cut_off"]["mean"], canary["cut_off"]["mean"]) == (0, 1)
    assert (stable["agreement"]["mean"], canary["agreement"]["mean"]) == (1, 0)
    assert stable["errors"]["low"] == 0 < stable["errors"]["high"] < 0.3
    assert canary["seconds"]["low"] <= canary["seconds"]["mean"] <= canary["seconds"]["high"]
    assert row["worse"] is None  # there are too few to judge by


async def test_a_version_that_is_promoted_has_the_tiers_name_and_place(fleet: NewFleet, toy: Path) -> None:
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:the-key-of-root"})
    before = load_family(toy)
    async with fleet([VLLM], wait=["toy-vllm"], access=access) as running:
        await begin(running)
        assert (await admin(running, "POST", "/families/toy/canary/promote"))[0] == 200
        assert await running.ask("toy:careful") == (200, before.tier("terse").sha256)
        assert (await running.ask("toy:terse"))[0] == 404
        assert (await admin(running, "GET", "/canary"))[1]["data"] == []
        assert (await admin(running, "POST", "/families/toy/canary/promote"))[0] == 400
    after = load_family(toy)  # what a restart reads
    assert after.tier("careful").identity == before.tier("terse").identity
    assert (after.canary, after.default_tier, after.efforts["low"]) == (None, "careful", "careful")


async def test_a_version_that_is_rolled_back_answers_no_more(fleet: NewFleet, toy: Path) -> None:
    async with canary_of(fleet, versions()) as running:
        await begin(running, share=1.0)
        (toy / "family.json").rename(toy / "kept.json")  # rolling back does not depend on the file
        assert (await admin(running, "DELETE", "/families/toy/canary"))[0] == 200
        async with running.post("toy:careful") as response:
            assert "x-alphatier-version" not in response.headers
        (toy / "kept.json").rename(toy / "family.json")
        await begin(running, share=1.0)
        assert (await admin(running, "DELETE", "/families/toy/canary"))[0] == 200
    assert load_family(toy).canary is None


@pytest.mark.parametrize(
    ("of_terse", "reason"),
    [({"status": 500}, "it fails more often"), ({"tokens": 22}, "it takes more tokens"), ({"tokens": 20}, None)],
)
async def test_a_version_that_is_worse_beyond_doubt_is_rolled_back(
    fleet: NewFleet, toy: Path, of_terse: dict[str, Any], reason: str | None
) -> None:
    async with canary_of(fleet, versions(**of_terse), canary=CanarySettings(samples=30)) as running:
        await begin(running)
        await versions_of(running, PROMPTS[:20])
        await judge(running.fleet)
        assert running.fleet.families["toy"].canary is not None  # there are too few to judge by
        await versions_of(running, PROMPTS[20:100])
        (row,) = (await admin(running, "GET", "/canary"))[1]["data"]
        assert row["worse"] is reason is None or row["worse"].startswith(reason)
        await judge(running.fleet)
    assert (load_family(toy).canary is None) == (reason is not None)


def test_workers_roll_a_version_back_together(tmp_path: Path) -> None:
    def script(request: RawRequest) -> list[bytes | float]:
        tier = json.loads(request.body)["model"].removeprefix("toy:")
        return [whole(json.dumps(answer(tier, finish="length")).encode())]

    family = small_family(tmp_path / "toy")
    assert family.canary is None
    document = json.loads((tmp_path / "toy" / "family.json").read_text())
    (tmp_path / "toy" / "family.json").write_text(json.dumps({**document, "canary": HALF}))
    with raw_engine() as engine:
        engine.script = script
        file = tmp_path / "gateway.toml"
        tables = f'[[engines]]\nurl = "{engine.url}"\n[canary]\nsamples = 30\n'
        file.write_text(f'families = ["toy"]\nworkers = 2\n{tables}')
        with serving(tmp_path, "--config", str(file), logs=tmp_path) as served:
            with httpx.Client() as client:

                def is_rolled_back() -> bool:
                    for prompt in PROMPTS[:50]:
                        body = {"model": "toy:careful", "messages": [{"role": "user", "content": prompt}]}
                        client.post(f"{served.url}/v1/chat/completions", json=body, headers={"connection": "close"})
                    return load_family(tmp_path / "toy").canary is None

                until(is_rolled_back, 60, process=served.process, log=served.log)
                until(lambda: "was rolled back: it is cut off more often" in served.said(), 10, log=served.log)
                last = client.post(f"{served.url}/v1/chat/completions", json={"model": "toy:careful", "messages": []})
            assert served.metric("alphatier_cut_off_answers_total", tier="terse") > 30
    assert "x-alphatier-version" not in last.headers


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"version": "nobody"}, 400, "invalid_canary"),
        ({"version": "careful"}, 400, "invalid_canary"),
        ({"share": 0}, 400, "invalid_value"),
        ({"share": 1.1}, 400, "invalid_value"),
        ({"extra": 1}, 400, "invalid_value"),
    ],
)
async def test_what_is_no_trial_is_refused(fleet: NewFleet, changes: dict[str, Any], status: int, code: str) -> None:
    async with canary_of(fleet, versions()) as running:
        refused = await admin(running, "PUT", "/families/toy/canary", {**HALF, **changes})
        assert (refused[0], refused[1]["error"]["code"]) == (status, code)
        assert (await admin(running, "PUT", "/families/nobody/canary", HALF))[0] == 404
        assert running.fleet.families["toy"].canary is None


def chunk(reason: str) -> list[Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": reason}
    return [{"choices": [choice]}, {"choices": [], "usage": usage}, b"data: [DONE]\n\n"]


RESPONSE = {"output": [], "incomplete_details": {"reason": "max_output_tokens"}, "status": "incomplete"}
STOPS = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 1}}


@pytest.mark.parametrize(
    ("path", "streamed", "handler", "expected"),
    [
        (
            "chat/completions",
            False,
            completion(choices=[{"message": {"content": "x"}, "finish_reason": "length"}]),
            1,
        ),
        ("completions", False, completion(choices=[{"text": "x", "finish_reason": "length"}]), 1),
        ("responses", False, completion(**RESPONSE), 1),
        ("messages", False, completion(stop_reason="max_tokens"), 1),
        ("chat/completions", True, events(*chunk("length")), 1),
        ("responses", True, events({"type": "response.incomplete", "response": RESPONSE}), 1),
        ("messages", True, events({"type": "message_start", "message": {}}, STOPS, {"type": "message_stop"}), 1),
        ("chat/completions", True, events(*chunk("stop")), 0),
        ("messages", False, completion(stop_reason="end_turn"), 0),
    ],
)
async def test_answers_that_are_cut_off_are_counted_in_every_api(
    fleet: NewFleet, path: str, streamed: bool, handler: Handler, expected: int
) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    async with canary_of(fleet, handler) as running:
        data = {"model": "toy", "stream": streamed, "max_tokens": 1, **asked}
        async with running.http.post(f"{running.url}/v1/{path}", json=data) as response:
            text = await response.text()
            assert response.status == 200, text
        cut_off = running.metrics.cut_off.values()
    assert cut_off["toy", "careful"] == expected
