"""What of OpenAI's and Anthropic's APIs works, through the official clients, the gateway and real vLLMs.

Two families: the shipped one, which thinks but knows only the words of its sums, and SmolLM2-135M, which can
write JSON and so can be made to call tools. Neither calls a tool by itself: that is asked for with
`tool_choice`, which vLLM answers by structured output.
"""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from alphatier_models import EFFORTS, load_family
from support.processes import START_SECONDS, Served, serving, until
from support.smollm import smol_family

from .conftest import ROOT, SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAMILY = load_family(SHIPPED, checksums=False)
ASK: Any = [{"role": "user", "content": "What is 17 + 25 - 8?"}]
LONG: Any = [{"role": "user", "content": "What is 76 - 60 + 28 + 32 - 44 + 22 - 11?"}]
BETWEEN = {"type": "integer", "minimum": 10, "maximum": 20}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FUNCTION: Any = {"name": "forecast", "description": "The weather", "parameters": PARAMETERS, "strict": True}
TOOL: Any = {"type": "function", "function": FUNCTION}
WEATHER: Any = [{"role": "user", "content": "How will the weather be in Paris?"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    smol = smol_family(tmp_path_factory.mktemp("smol"))
    options = ["--family", str(SHIPPED), "--family", str(smol)]
    # the shipped model was made for 512 tokens; Anthropic's budgets begin at 1024
    context = json.dumps({"max_position_embeddings": 4096})
    for argument in ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--hf-overrides", context):
        options.append(f"--engine-arg={argument}")
    with serving(ROOT, *options, logs=tmp_path_factory.mktemp("serve")) as running:

        def both() -> bool:
            return bool(
                httpx.get(f"{running.url}/health/ready", timeout=30).json()["replicas"] == {"up": 2, "all": 2}
            )

        until(both, START_SECONDS, process=running.process, log=running.log)
        yield running


@pytest.fixture(scope="module")
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


# -- chat completions


@pytest.mark.parametrize(("tier", "budget"), [("base", 1), ("base", 12), ("alpha-0", 4), ("alpha-0.15", 4)])
def test_a_thinking_budget_is_a_hard_cap_beside_the_tier(served: Served, tier: str, budget: int) -> None:
    sdk, options = served.sdk(), {"model": f"tiny:{tier}", "messages": LONG, "temperature": 0}
    free = sdk.chat.completions.create(**options)
    capped = sdk.chat.completions.create(**options, extra_body={"thinking_token_budget": budget})
    chunks = list(
        sdk.chat.completions.create(
            **options,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"thinking_token_budget": budget},
        )
    )
    assert capped.model == f"tiny:{tier}"
    assert reasoning_tokens(free.usage) > budget
    assert reasoning_tokens(capped.usage) <= budget
    assert reasoning_tokens(chunks[-1].usage) <= budget
    assert capped.choices[0].finish_reason == "stop"


def reasoning_tokens(usage: Any) -> int:
    count: int = usage.completion_tokens_details.reasoning_tokens
    return count


def test_n_seed_and_logprobs(served: Served) -> None:
    def ask(**options: Any) -> Any:
        return served.sdk().chat.completions.create(
            model="tiny:base", messages=ASK, temperature=1, n=3, logprobs=True, top_logprobs=2, **options
        )

    first, again, other = ask(seed=1), ask(seed=1), ask(seed=2)
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert [c.message for c in first.choices] == [c.message for c in again.choices]
    assert [c.message for c in first.choices] != [c.message for c in other.choices]
    entries = first.choices[0].logprobs.content
    assert entries
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in entries)


def test_several_choices_are_told_apart_in_a_stream(served: Served) -> None:
    chunks = list(
        served.sdk().chat.completions.create(
            model="tiny:base", messages=ASK, n=2, stream=True, logprobs=True, stream_options={"include_usage": True}
        )
    )
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert any(choice.logprobs for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage is not None
    assert [chunk for chunk in chunks if chunk.usage] == chunks[-1:]


def test_stop_ends_an_answer(served: Served) -> None:
    answer: Any = served.sdk().chat.completions.create(
        model="tiny:base", messages=LONG, temperature=0, stop=["Wait", "never"]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "Wait" not in (answer.choices[0].message.content or "") + answer.choices[0].message.reasoning


def test_an_answer_keeps_to_a_json_schema(served: Served) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "number", "schema": BETWEEN}}
    answer = served.sdk().chat.completions.create(model="tiny", messages=ASK, response_format=schema)  # type: ignore[call-overload]
    assert 10 <= json.loads(answer.choices[0].message.content) <= 20
    trip = {"type": "json_schema", "json_schema": {"name": "trip", "schema": PARAMETERS}}
    options: Any = {"model": "smol", "messages": WEATHER, "response_format": trip, "max_tokens": 60}
    assert_is_trip(served.sdk().chat.completions.create(**options).choices[0].message.content)
    parts = served.sdk().chat.completions.create(**options, stream=True)
    assert_is_trip("".join(part.choices[0].delta.content or "" for part in parts if part.choices))


def assert_is_trip(text: str) -> None:
    trip = json.loads(text)
    assert set(trip) == {"city", "days"}
    assert trip["city"] in ("Paris", "Rome")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "forecast"}}])
def test_a_tool_is_called_where_it_must_be(served: Served, choice: Any) -> None:
    options: Any = {"model": "smol", "messages": WEATHER, "tools": [TOOL], "tool_choice": choice, "max_tokens": 80}
    whole = served.sdk().chat.completions.create(**options, parallel_tool_calls=False)
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "forecast"
    assert_is_trip(call.function.arguments)
    deltas = [
        piece
        for part in served.sdk().chat.completions.create(**options, parallel_tool_calls=False, stream=True)
        for choice in part.choices
        for piece in choice.delta.tool_calls or ()
    ]
    assert [piece.function.name for piece in deltas if piece.function and piece.function.name] == ["forecast"]
    assert_is_trip("".join(piece.function.arguments or "" for piece in deltas if piece.function))


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_tool_may_be_left_alone(served: Served, choice: Any) -> None:
    answer = served.sdk().chat.completions.create(model="tiny", messages=ASK, tools=[TOOL], tool_choice=choice)
    assert "\\boxed{" in (answer.choices[0].message.content or "")
    assert not answer.choices[0].message.tool_calls


def test_a_tools_result_is_taken(served: Served) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Paris"}'}}
    messages: Any = [
        *WEATHER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    answer = served.sdk().chat.completions.create(model="smol", messages=messages, tools=[TOOL], max_tokens=5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


# -- responses


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_of_a_response_is_mapped(served: Served, effort: Any) -> None:
    raw = served.sdk().responses.with_raw_response.create(
        model="tiny", input="What is 3 + 4?", reasoning={"effort": effort}
    )
    answer = raw.parse()
    assert raw.headers["x-alphatier-tier"] == FAMILY.efforts[effort]
    assert raw.headers["x-alphatier-decision"] == "effort"
    assert answer.model == f"tiny:{FAMILY.efforts[effort]}"
    assert answer.reasoning is not None
    assert answer.reasoning.effort == effort


def test_a_response_streams_and_is_counted(served: Served) -> None:
    labels = {"endpoint": "responses", "tier": "base"}
    before = served.metric("alphatier_completion_tokens_total", **labels)
    thought_before = served.metric("alphatier_reasoning_tokens_total", **labels)
    with served.sdk().responses.stream(model="tiny:base", input="What is 17 + 25 - 8?", temperature=0) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert "response.reasoning_text.delta" in kinds
    assert kinds[-1] == "response.completed"
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert "\\boxed{" in answer.output_text
    assert answer.usage is not None
    assert served.metric("alphatier_completion_tokens_total", **labels) - before == answer.usage.output_tokens
    thought = answer.usage.output_tokens_details.reasoning_tokens
    assert served.metric("alphatier_reasoning_tokens_total", **labels) - thought_before == thought > 0
    assert served.metric("alphatier_time_to_first_answer_token_seconds_count", tier="base") > 0


def test_a_conversation_goes_on_by_its_items(served: Served) -> None:
    sdk = served.sdk()
    first = sdk.responses.create(model="tiny", input="What is 3 + 4?")
    turns: Any = [
        {"role": "user", "content": "What is 3 + 4?"},
        *first.output,
        {"role": "user", "content": "What is 5 + 4?"},
    ]
    second = sdk.responses.create(model="tiny", input=turns)
    assert second.output_text
    assert first.usage
    assert second.usage
    assert second.usage.input_tokens > 2 * first.usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        sdk.responses.create(model="tiny", input="What is 5 + 4?", previous_response_id=first.id)


def test_a_response_cut_short_says_so(served: Served) -> None:
    answer = served.sdk().responses.create(model="tiny:base", input="What is 17 + 25 - 8?", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_response_keeps_to_a_json_schema_and_gives_logprobs(served: Served) -> None:
    answer = served.sdk().responses.create(
        model="tiny",
        input="What is 3 + 4?",
        text={"format": {"type": "json_schema", "name": "number", "schema": BETWEEN}},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    assert 10 <= json.loads(answer.output_text) <= 20
    text: Any = next(item for item in answer.output if item.type == "message").content[0]
    assert text.logprobs


def test_a_response_calls_a_tool_where_it_must(served: Served) -> None:
    tool: Any = {"type": "function", **FUNCTION}
    answer = served.sdk().responses.create(
        model="smol",
        input="How will the weather be in Paris?",
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=80,
    )
    (call,) = (item for item in answer.output if item.type == "function_call")
    assert call.name == "forecast"
    assert_is_trip(call.arguments)


def test_what_the_engine_refuses_in_a_response_is_the_sdks_own_exception(served: Served) -> None:
    with pytest.raises(openai.BadRequestError):
        served.sdk().responses.create(model="tiny", input="?", max_output_tokens=-3)


# -- messages


def test_a_message_streams_with_its_thinking_apart_and_is_counted(
    served: Served, claude: anthropic.Anthropic
) -> None:
    before = served.metric("alphatier_completion_tokens_total", endpoint="messages", tier="base")
    with claude.messages.stream(
        model="tiny:base", max_tokens=400, messages=LONG, extra_body={"temperature": 0}
    ) as stream:
        message = stream.get_final_message()
    assert message.model == "tiny:base"
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert "\\boxed{" in message.content[1].text  # type: ignore[union-attr]
    after = served.metric("alphatier_completion_tokens_total", endpoint="messages", tier="base")
    assert after - before == message.usage.output_tokens
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("effort", ["low", "medium", "high", "xhigh", "max"])
def test_every_effort_of_a_message_is_mapped(claude: anthropic.Anthropic, effort: Any) -> None:
    raw = claude.messages.with_raw_response.create(
        model="tiny", max_tokens=400, messages=ASK, output_config={"effort": effort}
    )
    assert raw.headers["x-alphatier-tier"] == FAMILY.efforts[effort]
    assert raw.parse().model == f"tiny:{FAMILY.efforts[effort]}"


LIKELIEST = max(FAMILY.tiers, key=lambda tier: tier.evaluations[0].accuracy.mean).name
"""The tier that is most often right: what a budget that any tier fits into buys."""


@pytest.mark.parametrize(
    ("thinking", "tier"),
    [
        ({"type": "disabled"}, FAMILY.efforts["none"]),
        ({"type": "adaptive"}, FAMILY.default_tier),
        ({"type": "enabled", "budget_tokens": 1024}, LIKELIEST),
    ],
)
def test_thinking_chooses_a_tier(claude: anthropic.Anthropic, thinking: Any, tier: str) -> None:
    raw = claude.messages.with_raw_response.create(model="tiny", max_tokens=2048, messages=ASK, thinking=thinking)
    assert raw.headers["x-alphatier-tier"] == tier
    assert raw.parse().stop_reason == "end_turn"


def test_a_messages_tokens_are_counted_before_it_is_sent(claude: anthropic.Anthropic) -> None:
    count = claude.messages.count_tokens(model="tiny", messages=ASK)
    answer = claude.messages.create(model="tiny", max_tokens=400, messages=ASK)
    assert count.input_tokens == answer.usage.input_tokens


def test_a_message_stops_where_told(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model="tiny:base", max_tokens=400, messages=LONG, stop_sequences=["\\boxed{"], extra_body={"temperature": 0}
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "\\boxed{")
    short = claude.messages.create(model="tiny:base", max_tokens=3, messages=LONG)
    assert short.stop_reason == "max_tokens"


def test_a_message_keeps_to_a_json_schema(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model="tiny",
        max_tokens=400,
        messages=ASK,
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": BETWEEN}},
    )
    text = next(block.text for block in answer.content if block.type == "text")
    assert 10 <= json.loads(text) <= 20


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "forecast"}]
)
def test_a_message_calls_a_tool_where_it_must(claude: anthropic.Anthropic, choice: Any) -> None:
    tool: Any = {"name": "forecast", "description": "The weather", "input_schema": PARAMETERS, "strict": True}
    options: Any = {"model": "smol", "max_tokens": 80, "messages": WEATHER, "tools": [tool], "tool_choice": choice}
    answer = claude.messages.create(**options)
    (call,) = (block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use"
    assert call.name == "forecast"
    assert_is_trip(json.dumps(call.input))
    with claude.messages.stream(**options) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content if block.type == "tool_use"] == ["tool_use"]


def test_what_the_engine_refuses_in_a_message_is_anthropics_own_exception(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(
            model="tiny", max_tokens=2048, messages=ASK, thinking={"type": "enabled", "budget_tokens": 5}
        )
    assert caught.value.type == "invalid_request_error"
    assert "1024" in str(caught.value)
    assert caught.value.request_id


def test_nothing_is_left_in_flight(served: Served) -> None:
    assert served.metric("alphatier_requests_in_flight") == 0
    assert served.metric("alphatier_requests_total", outcome="gateway_error") == 0
