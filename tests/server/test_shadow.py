"""Shadow: what is asked of the reference tier beside clients' answers, and what is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alphatier_models import Family
from alphatier_server.keys.access import build_access
from alphatier_server.logs import LogWriter, RequestLog
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.metrics.evidence import shadow_report
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.overload import OverloadSettings
from alphatier_server.settings.replicas import PoolSettings
from alphatier_server.settings.shadow import ShadowSettings
from support.fake_engine import FakeEngine, Handler, fake_engine
from support.fleets import NewFleet, by_url
from support.gateway import RunningGateway, pair, running_gateway
from support.keys import key_file
from support.waiting import eventually

ALL = ShadowSettings(share=1.0)
FRAIL = PoolSettings(breaker_failures=1)
QUESTION = "What is 2 + 2?"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}]}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "completions": {"prompt": QUESTION},
    "responses": {"input": QUESTION},
    "messages": {**CHAT, "max_tokens": 99},
}


def whole(path: str, said: str, tokens: int) -> dict[str, Any]:
    """An answer in the shape of the API at `path`, with its thinking apart where the API has a place for it."""
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    other_usage = {"input_tokens": 5, "output_tokens": tokens}
    if path == "chat/completions":
        message = {"role": "assistant", "content": said, "reasoning": "Is it 5?"}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    if path == "completions":
        text = f"<think>Is it \\boxed{{5}}?</think>{said}"
        return {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}], "usage": usage}
    if path == "responses":
        content = [{"type": "output_text", "text": said}]
        output = [{"type": "reasoning", "content": []}, {"type": "message", "content": content}]
        return {"status": "completed", "output": output, "usage": other_usage}
    parts = [{"type": "thinking", "thinking": "Is it 5?"}, {"type": "text", "text": said}]
    return {"type": "message", "content": parts, "stop_reason": "end_turn", "usage": other_usage}


def stream(path: str, said: str, tokens: int) -> bytes:
    """The same as events; what is said comes in two pieces."""
    head, tail = said[:3], said[3:]
    answer = whole(path, said, tokens)
    events: list[Any]
    if path in ("chat/completions", "completions"):
        chat = path == "chat/completions"
        thinks = {"delta": {"reasoning": "Is it 5?"}} if chat else {"text": "<think>5</think>"}
        says = [{"delta": {"content": part}} if chat else {"text": part} for part in (head, tail)]
        ends = {"delta": {}, "finish_reason": "stop"} if chat else {"text": "", "finish_reason": "stop"}
        choices = [thinks, *says, ends]
        events = [{"choices": [{"index": 0, **choice}]} for choice in choices]
        events += [{"choices": [], "usage": answer["usage"]}]
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    if path == "responses":
        events = [{"type": "response.output_text.delta", "delta": part} for part in (head, tail)]
        events += [{"type": "response.completed", "response": answer}]
    else:
        start = {"content": [], "usage": {"input_tokens": 5, "output_tokens": 0}}
        events = [{"type": "message_start", "message": start}]
        events += [{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Is it 5?"}}]
        deltas = [{"type": "text_delta", "text": part} for part in (head, tail)]
        events += [{"type": "content_block_delta", "delta": delta} for delta in deltas]
        stops = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": tokens}}
        events += [stops, {"type": "message_stop"}]
    named = (b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events)
    return b"".join(named)


def tiers(**said: str) -> Handler:
    """Each tier says its own; base takes 30 tokens, the others 10."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body, path = await request.json(), request.match_info["path"]
        tier = body["model"].removeprefix("toy:")
        tokens = 30 if tier == "base" else 10
        if body.get("stream"):
            return web.Response(body=stream(path, said[tier], tokens), content_type="text/event-stream")
        return web.json_response(whole(path, said[tier], tokens))

    return answer


SAME = tiers(base="So \\boxed{4}", careful="\\boxed{4.0}", terse="\\boxed{5}")


class Reference:
    """An engine whose tier `base` answers as a test says, or not before it is let go."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked, self.go, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if (await request.json())["model"] != "toy:base":
            return await SAME(request)
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return web.Response(status=self.status) if self.status != 200 else await SAME(request)


async def ask(gateway: RunningGateway, path: str = "chat/completions", tier: str = "careful", **fields: Any) -> str:
    """The answer's text. It must be a whole one."""
    data = json.dumps({"model": f"toy:{tier}", **BODIES[path], **fields})
    async with gateway.http.post(f"{gateway.url}/v1/{path}", data=data) as response:
        text = await response.text()
        assert response.status == 200, text
    return text


async def counted(gateway: RunningGateway, name: str, number: int = 1, **labels: str) -> None:
    """Wait until so many are counted."""

    async def is_counted() -> bool:
        return await gateway.metric(f"alphatier_shadow_{name}_total", **labels) >= number

    await eventually(is_counted, 10)


@asynccontextmanager
async def gateway_of(
    families: dict[str, Family], handler: Handler, **more: Any
) -> AsyncIterator[tuple[RunningGateway, FakeEngine]]:
    async with pair(families, handler, shadow=more.pop("shadow", ALL), **more) as both:
        yield both


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_answers_in_every_api_are_held_against_the_reference_tiers(
    families: dict[str, Family], path: str, streamed: bool
) -> None:
    async with gateway_of(families, SAME) as (gateway, engine):
        for tier, outcome in (("careful", "agree"), ("terse", "differ"), ("base", "agree")):
            await ask(gateway, path, tier, stream=streamed)
            await counted(gateway, "answers", tier=tier, reference="base", outcome=outcome)
        assert await gateway.metric("alphatier_shadow_answers_total") == 3
        assert await gateway.metric("alphatier_shadow_tokens_total", tier="terse", of="answer") == 10
        assert await gateway.metric("alphatier_shadow_tokens_total", tier="terse", of="reference") == 30
        assert await gateway.metric("alphatier_shadow_spent_tokens_total", tier="base") == 3 * 35
        # what the reference tier did is no client's
        assert await gateway.metric("alphatier_requests_total") == 3
        assert await gateway.metric("alphatier_completion_tokens_total") == 10 + 10 + 30
    asked = [json.loads(body) for body in engine.bodies]
    assert [body["model"] for body in asked] == [
        f"toy:{t}" for t in ("careful", "base", "terse", "base", "base", "base")
    ]
    assert "stream" not in asked[1]
    assert {key: asked[1][key] for key in BODIES[path]} == BODIES[path]


@pytest.mark.parametrize(
    ("said", "reference", "outcome"),
    [
        ("The sum is 4.", "4", "differ"),  # a number in the middle of prose is no final answer
        ("The answer is 1,250.", "#### 1250", "agree"),
        ('{"b": 2, "a": 1}', '```json\n{"a": 1, "b": 2}\n```', "agree"),
        ('{"a": 1}', '{"a": 2}', "differ"),
        ("The answer is (B).", "B", "agree"),
        ("B", "The answer is **C**", "differ"),
        ("", "\\boxed{4}", "differ"),  # cut off before it had one
        ("\\boxed{4}", "The sea is deep.", "none"),
        ("x", "\\boxed{", "none"),
    ],
)
async def test_boxes_numbers_json_and_choices_are_compared(
    families: dict[str, Family], said: str, reference: str, outcome: str
) -> None:
    async with gateway_of(families, tiers(careful=said, base=reference)) as (gateway, _):
        await ask(gateway)
        await counted(gateway, "answers", outcome=outcome)


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        ("chat/completions", {"n": 2}, "several"),
        ("completions", {"prompt": [QUESTION, QUESTION]}, "several"),
        ("chat/completions", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("messages", {"tools": [{"name": "f"}]}, "tools"),
    ],
)
async def test_what_cannot_be_compared_is_left_out_and_counted(
    families: dict[str, Family], path: str, fields: dict[str, Any], reason: str
) -> None:
    async with gateway_of(families, SAME) as (gateway, engine):
        await ask(gateway, path, **fields)
        await counted(gateway, "skipped", tier="careful", reason=reason)
    assert len(engine.bodies) == 1


async def test_a_client_has_its_answer_before_the_reference_tier_is_asked(families: dict[str, Family]) -> None:
    reference = Reference()
    async with gateway_of(families, reference) as (gateway, _):
        assert "4.0" in await ask(gateway)  # while the reference tier says nothing at all
        await asyncio.wait_for(reference.asked.wait(), 10)
        reference.go.set()
        await counted(gateway, "answers", outcome="agree")


async def test_a_reference_tier_that_fails_harms_nobody(families: dict[str, Family]) -> None:
    reference = Reference(status=500)
    reference.go.set()
    async with (
        fake_engine(reference) as one,
        fake_engine(reference) as other,  # of two, one might be taken out
        running_gateway(families, one.url, other.url, shadow=ALL, replicas=FRAIL) as gateway,
    ):
        for number in range(1, 5):
            await ask(gateway)
            await counted(gateway, "skipped", number, reason="reference_failed")
        assert await gateway.metric("alphatier_replica_ejections_total") == 0
        assert await gateway.metric("alphatier_errors_total") == await gateway.metric("alphatier_retries_total") == 0


async def test_a_reference_tier_that_hangs_is_given_up(families: dict[str, Family]) -> None:
    reference = Reference()
    shadow = ShadowSettings(share=1.0, timeout=0.2, max_in_flight=1)
    async with gateway_of(families, reference, shadow=shadow) as (gateway, _):
        await ask(gateway)
        await asyncio.wait_for(reference.asked.wait(), 10)
        await ask(gateway)  # no more than one comparison at once
        await counted(gateway, "skipped", reason="busy")
        await counted(gateway, "skipped", reason="reference_failed")
        await asyncio.wait_for(reference.left.wait(), 10)
        await gateway.falls_to_zero("alphatier_replica_requests_in_flight")


async def test_a_comparison_gives_way_to_a_client_that_must_wait(families: dict[str, Family]) -> None:
    reference = Reference()
    async with gateway_of(families, reference, overload=OverloadSettings(max_in_flight=1)) as (gateway, _):
        await ask(gateway)
        await asyncio.wait_for(reference.asked.wait(), 10)
        await asyncio.wait_for(ask(gateway, tier="terse"), 5)  # the only slot was the comparison's
        await asyncio.wait_for(reference.left.wait(), 10)
        await counted(gateway, "skipped", reason="load")


async def test_an_engine_that_works_on_many_requests_gets_no_comparison(families: dict[str, Family]) -> None:
    reference = Reference()
    shadow = ShadowSettings(share=1.0, max_engine_in_flight=1)
    async with gateway_of(families, reference, shadow=shadow) as (gateway, _):
        waiting = asyncio.create_task(ask(gateway, tier="base"))  # a client's own
        await asyncio.wait_for(reference.asked.wait(), 10)
        await ask(gateway)
        await counted(gateway, "skipped", tier="careful", reason="load")
        reference.go.set()
        await waiting


async def test_a_client_that_leaves_is_not_compared(families: dict[str, Family]) -> None:
    reference = Reference()
    async with gateway_of(families, reference) as (gateway, engine):
        leaving = asyncio.create_task(ask(gateway, tier="base"))
        await asyncio.wait_for(reference.asked.wait(), 10)
        leaving.cancel()
        await counted(gateway, "skipped", tier="base", reason="disconnected")
    assert len(engine.bodies) == 1


async def test_the_budget_of_tokens_is_kept(families: dict[str, Family]) -> None:
    # a tenth of an hour's tokens at once: 35 are, a second time would be too much
    async with gateway_of(families, SAME, shadow=ShadowSettings(share=1.0, tokens_per_hour=400)) as (gateway, engine):
        await ask(gateway)
        await counted(gateway, "answers")
        await ask(gateway)
        await counted(gateway, "skipped", reason="budget")
    assert len(engine.bodies) == 3


async def test_a_share_of_the_requests_is_drawn_by_their_ids(families: dict[str, Family]) -> None:
    async with gateway_of(families, SAME, shadow=ShadowSettings(share=0.5, max_in_flight=100)) as (gateway, _):
        data = json.dumps({"model": "toy:careful", **CHAT})
        for number in range(100):
            headers = {"x-request-id": f"request-{number}"}
            async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=data, headers=headers):
                pass

        async def drawn() -> bool:
            known = [await gateway.metric(f"alphatier_shadow_{name}_total") for name in ("answers", "skipped")]
            return sum(known) == 46  # the same ids in any process

        await eventually(drawn, 10)


async def test_a_comparison_is_no_keys_and_no_word_of_it_is_logged(
    families: dict[str, Family], tmp_path: Path
) -> None:
    file = key_file(tmp_path, {"ann": "secret"}, ann={"tiers": ["careful"], "tokens_per_minute": 1000})
    with (tmp_path / "log").open("wb") as stream:
        log = RequestLog(LogWriter(stream.fileno()))
        access = build_access(AccessSettings(keys_file=file))
        async with gateway_of(families, SAME, access=access, request_log=log) as (gateway, _):
            gateway.http.headers["authorization"] = "Bearer secret"  # which may not use the reference tier
            await ask(gateway)
            await counted(gateway, "answers")
            data = json.dumps({"model": "toy:careful", **CHAT, "max_tokens": 1})
            async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=data) as response:
                left = int(response.headers["x-ratelimit-remaining-tokens"])
        log.flush()
    assert 1000 - left < 15 + 35  # its own answer and what this request holds back
    lines = (tmp_path / "log").read_text()
    assert lines.count('"event":"request"') == 2
    assert "boxed" not in lines
    assert "2 + 2" not in lines


async def test_the_engine_is_told_the_lowest_priority(fleet: NewFleet) -> None:
    async with fake_engine(SAME) as engine:
        config = GatewayConfig(shadow=ALL)
        async with fleet([by_url(engine, priority=True)], wait=[engine.replica], config=config) as running:
            async with running.post("toy:careful"):
                pass
            await eventually(lambda: len(engine.bodies) == 2)
    assert [json.loads(body)["priority"] for body in engine.bodies] == [0, 2]


async def test_an_administrator_reads_agreement_and_saving_with_intervals(fleet: NewFleet) -> None:
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:secret"})
    async with fake_engine(SAME) as engine:
        config = GatewayConfig(shadow=ALL)
        async with fleet([by_url(engine)], wait=[engine.replica], config=config, access=access) as running:
            for tier in ("careful", "careful", "terse"):
                async with running.post(f"toy:{tier}"):
                    pass
            await eventually(lambda: sum(running.metrics.shadow_answers.values().values()) == 3)
            admin = {"authorization": "Bearer secret"}
            async with running.http.get(f"{running.url}/admin/shadow", headers=admin) as response:
                careful, terse = (await response.json())["data"]
            async with running.http.get(f"{running.url}/admin/shadow") as response:
                assert response.status == 401
    assert (careful["tier"], careful["reference"], careful["answers"]) == ("careful", "base", 2)
    assert careful["agreement"] == {"mean": 1.0, "low": pytest.approx(0.342, abs=1e-3), "high": 1.0}
    assert careful["saving"]["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert careful["mean_tokens"] == {"answer": 10, "reference": 30}
    assert terse["outcomes"] == {"agree": 0, "differ": 1, "none": 0}


def test_after_two_thousand_comparisons_the_intervals_are_two_points_wide_each_way() -> None:
    metrics = Metrics()
    pair = "toy", "terse", "base"
    for number in range(2000):
        mine, theirs = 10 + number % 41, 20 + number * 7 % 61  # from 10 to 50 and from 20 to 80, side by side
        metrics.shadow_answers.labels(*pair, "agree" if number % 10 < 8 else "differ").inc()
        for of, amount in (("answer", mine), ("reference", theirs)):
            metrics.shadow_tokens.labels(*pair, of).inc(amount)
        for of, amount in (
            ("answer_answer", mine**2),
            ("answer_reference", mine * theirs),
            ("reference_reference", theirs**2),
        ):
            metrics.shadow_token_products.labels(*pair, of).inc(amount)
    (row,) = shadow_report(metrics)
    for what, expected in (("agreement", 0.8), ("saving", 0.4)):
        figure = row[what]
        assert figure["mean"] == pytest.approx(expected, abs=0.01)
        assert 0.01 < figure["high"] - figure["low"] <= 0.04
