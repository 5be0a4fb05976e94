"""The Responses and Messages APIs through the gateway, with the official clients and an engine that replays."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest

from alphatier_models import Family
from alphatier_server.keys.access import Access
from alphatier_server.keys.ring import Caller
from alphatier_server.limits.store import Admission
from support.fake_engine import break_connection, completion, error, events
from support.gateway import RunningGateway, pair

DATA = Path(__file__).parent / "data"
RESPONSES, MESSAGES = (DATA / "responses.sse").read_bytes(), (DATA / "messages.sse").read_bytes()
ASK: Any = [{"role": "user", "content": "What is 3 + 4?"}]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "x",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "7", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 3,
        "total_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 1},
    },
    "metrics": {"queue_time_ms": 250.0},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "x",
    "content": [{"type": "thinking", "thinking": "3 + 4 = 7", "signature": "s"}, {"type": "text", "text": "7"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 3},
}


@asynccontextmanager
async def claude(gateway: RunningGateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="secret", max_retries=0) as client:
        yield client


async def test_a_response_comes_whole(families: dict[str, Family]) -> None:
    async with pair(families, completion(**RESPONSE)) as (gateway, engine):
        raw = await gateway.sdk().responses.with_raw_response.create(
            model="toy", input="What is 3 + 4?", reasoning={"effort": "low"}, max_output_tokens=50
        )
        answer = raw.parse()
        assert (answer.model, answer.output_text) == ("toy:terse", "7")
        assert answer.reasoning is not None
        assert answer.reasoning.effort == "low"
        assert raw.headers["x-alphatier-tier"] == "terse"
        assert raw.headers["x-alphatier-decision"] == "effort"
        sent = orjson.loads(engine.bodies[0])
        assert sent == {"model": "toy:terse", "input": "What is 3 + 4?", "max_output_tokens": 50, "store": False}
        counted = {"tier": "terse", "endpoint": "responses"}
        assert await gateway.metric("alphatier_completion_tokens_total", **counted) == 3
        assert await gateway.metric("alphatier_reasoning_tokens_total", **counted) == 1


async def test_a_response_comes_as_a_stream(families: dict[str, Family]) -> None:
    async with pair(families, events(RESPONSES)) as (gateway, _):
        stream = await gateway.sdk().responses.create(model="toy:careful", input="What is 3 + 4?", stream=True)
        seen = [event async for event in stream]
        last = seen[-1]
        assert last.type == "response.completed"
        assert (last.response.model, last.response.output_text) == ("toy:careful", "\\boxed{7}")
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        assert await gateway.metric("alphatier_completion_tokens_total", endpoint="responses") == 32
        assert await gateway.metric("alphatier_reasoning_tokens_total", endpoint="responses") == 25
        assert await gateway.metric("alphatier_time_to_first_answer_token_seconds_count") == 1
        assert await gateway.metric("alphatier_queue_time_seconds_count", tier="careful") == 1


async def test_a_broken_response_stream_raises_in_openais_client(families: dict[str, Family]) -> None:
    part = RESPONSES[: len(RESPONSES) // 2]
    async with pair(families, events(part, then=break_connection)) as (gateway, _):
        stream = await gateway.sdk().responses.create(model="toy", input="?", stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _event in stream:
                pass
        assert await gateway.metric("alphatier_requests_total", endpoint="responses", outcome="engine_error") == 1


async def test_what_needs_a_stored_response_is_refused(families: dict[str, Family]) -> None:
    async with pair(families, completion(**RESPONSE)) as (gateway, engine):
        with pytest.raises(openai.BadRequestError, match="send the conversation in input"):
            await gateway.sdk().responses.create(model="toy", input="?", previous_response_id="resp_1")
        assert engine.bodies == []


async def test_a_message_comes_whole(families: dict[str, Family]) -> None:
    async with (
        pair(families, completion(**MESSAGE, object=None, choices=None)) as (gateway, engine),
        claude(gateway) as sdk,
    ):
        raw = await sdk.messages.with_raw_response.create(
            model="toy", max_tokens=50, messages=ASK, output_config={"effort": "low"}
        )
        answer = await raw.parse()
        assert answer.model == "toy:terse"
        assert [block.type for block in answer.content] == ["thinking", "text"]
        assert raw.headers["x-alphatier-tier"] == "terse"
        assert raw.headers["request-id"] == raw.headers["x-request-id"]
        assert orjson.loads(engine.bodies[0]) == {"model": "toy:terse", "max_tokens": 50, "messages": ASK}
        assert not {"x-api-key", "anthropic-version", "authorization"} & set(engine.headers[0])
        assert await gateway.metric("alphatier_completion_tokens_total", endpoint="messages", tier="terse") == 3


async def test_a_message_comes_as_a_stream(families: dict[str, Family]) -> None:
    async with pair(families, events(MESSAGES)) as (gateway, _), claude(gateway) as sdk:
        async with sdk.messages.stream(model="toy:careful", max_tokens=50, messages=ASK) as stream:
            message = await stream.get_final_message()
        assert message.model == "toy:careful"
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.content[1].text == "\\boxed{7}"  # type: ignore[union-attr]
        assert message.usage.output_tokens == 32
        assert await gateway.metric("alphatier_completion_tokens_total", endpoint="messages") == 32
        assert await gateway.metric("alphatier_prompt_tokens_total", endpoint="messages") == 7


@pytest.mark.parametrize(
    ("options", "tier"),
    [
        ({"thinking": {"type": "disabled"}}, "terse"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "careful"),
        ({"thinking": {"type": "adaptive"}}, "careful"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "low"}}, "terse"),
    ],
)
async def test_thinking_chooses_a_tier_and_a_budget_goes_on(
    families: dict[str, Family], options: dict[str, Any], tier: str
) -> None:
    async with pair(families, completion(**MESSAGE)) as (gateway, engine), claude(gateway) as sdk:
        raw = await sdk.messages.with_raw_response.create(model="toy", max_tokens=4096, messages=ASK, **options)
        assert raw.headers["x-alphatier-tier"] == tier
        sent = orjson.loads(engine.bodies[0])
        kept = options["thinking"] if options["thinking"]["type"] != "disabled" else None
        assert (sent.get("thinking"), sent.get("output_config")) == (kept, None)


async def test_a_broken_message_stream_raises_in_anthropics_client(families: dict[str, Family]) -> None:
    part = MESSAGES[: len(MESSAGES) // 2]
    async with pair(families, events(part, then=break_connection)) as (gateway, _), claude(gateway) as sdk:
        stream = await sdk.messages.create(model="toy", max_tokens=50, messages=ASK, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="broke off") as caught:
            async for _event in stream:
                pass
        assert caught.value.type == "api_error"
        assert await gateway.metric("alphatier_requests_total", endpoint="messages", outcome="engine_error") == 1


async def test_errors_are_anthropics_own_exceptions(families: dict[str, Family]) -> None:
    async with pair(families, completion(**MESSAGE)) as (gateway, engine), claude(gateway) as sdk:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await sdk.messages.create(model="toy:brief", max_tokens=50, messages=ASK)
        assert missing.value.type == "not_found_error"
        assert missing.value.request_id
        body: Any = missing.value.body
        assert body["request_id"] == missing.value.request_id
        minimal: Any = {"effort": "minimal"}
        with pytest.raises(anthropic.BadRequestError, match="low, medium, high, xhigh, max"):
            await sdk.messages.create(model="toy", max_tokens=50, messages=ASK, output_config=minimal)
        assert engine.bodies == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        # vLLM's three spellings of a refusal: its Anthropic shape, its validation, an unknown path
        (b'{"type":"error","error":{"type":"BadRequestError","message":"too long"}}', "invalid_request_error"),
        (b'{"error":{"message":"too long","type":"Bad Request","param":"body","code":400}}', "invalid_request_error"),
        (b'{"detail":"too long"}', "invalid_request_error"),
    ],
)
async def test_the_engines_refusal_is_in_anthropics_shape(
    families: dict[str, Family], body: bytes, kind: str
) -> None:
    async with pair(families, error(400, body)) as (gateway, _), claude(gateway) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="too long") as caught:
            await sdk.messages.create(model="toy", max_tokens=50, messages=ASK)
        assert caught.value.type == kind


async def test_tokens_of_a_prompt_are_counted_by_the_engine(families: dict[str, Family]) -> None:
    async with pair(families, completion(input_tokens=13)) as (gateway, engine), claude(gateway) as sdk:
        count = await sdk.messages.count_tokens(model="toy:terse", messages=ASK)
        assert count.input_tokens == 13
        assert orjson.loads(engine.bodies[0]) == {"model": "toy:terse", "messages": ASK}
        assert await gateway.metric("alphatier_requests_total", endpoint="messages/count_tokens", outcome="ok") == 1
        assert await gateway.metric("alphatier_completion_tokens_total") == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"Not Found"}',  # FastAPI, and so `transformers serve`
        b'{"error":{"message":"Not Found","type":"Not Found","param":null,"code":404}}',  # vLLM
    ],
)
async def test_an_engine_without_the_api_is_told_from_an_unknown_model(
    families: dict[str, Family], body: bytes
) -> None:
    async with pair(families, error(404, body)) as (gateway, _), claude(gateway) as sdk:
        with pytest.raises(anthropic.NotFoundError, match="The engine does not have this API"):
            await sdk.messages.create(model="toy", max_tokens=50, messages=ASK)


class NotingAccess(Access):
    """Lets everybody in, and keeps what limits would have been asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    async def admit(self, caller: Caller, *, streamed: bool, tokens: int, requests: int = 1) -> Admission:
        self.asked.append(tokens)
        return await super().admit(caller, streamed=streamed, tokens=tokens, requests=requests)


async def test_counting_tokens_uses_none_of_a_keys_tokens(families: dict[str, Family]) -> None:
    access = NotingAccess()
    async with (
        pair(families, completion(**MESSAGE, input_tokens=13), access=access) as (gateway, _),
        claude(gateway) as sdk,
    ):
        await sdk.messages.count_tokens(model="toy", messages=ASK)
        await sdk.messages.create(model="toy", max_tokens=50, messages=ASK)
    assert access.asked[0] == 0
    assert access.asked[1] > 50
