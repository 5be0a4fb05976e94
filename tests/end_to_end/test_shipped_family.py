"""From a question to a metric: the shipped family, a real engine, the official SDK, a real Prometheus."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from alphatier_models import EFFORTS, load_family
from support.gateway import metric_value
from support.processes import Served, kill_hard, prometheus, require, serving, until

from .conftest import ROOT, SHIPPED

pytestmark = pytest.mark.engine

FAMILY = load_family(SHIPPED, checksums=False)
TIERS = [tier.name for tier in FAMILY.tiers]
MESSAGES: Any = [{"role": "user", "content": "What is 17 + 25 - 8?"}]


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_answers_under_its_model_name(served: Served, tier: str) -> None:
    answer: Any = served.sdk().chat.completions.create(model=f"tiny:{tier}", messages=MESSAGES)
    assert answer.model == f"tiny:{tier}"
    assert "\\boxed{" in answer.choices[0].message.content
    assert "<think>" not in answer.choices[0].message.content


@pytest.mark.parametrize(
    "options",
    [
        {"extra_headers": {"X-Efficiency-Tier": "alpha-0.4"}},
        {"extra_body": {"efficiency_tier": "alpha-0.4"}},
        {"model": "tiny:alpha-0.4"},
    ],
)
def test_a_tier_is_chosen_by_header_field_or_model(served: Served, options: dict[str, Any]) -> None:
    raw = served.sdk().chat.completions.with_raw_response.create(**{"model": "tiny", "messages": MESSAGES, **options})
    assert raw.headers["x-alphatier-tier"] == "alpha-0.4"
    assert raw.headers["x-alphatier-decision"] == "explicit"
    assert raw.headers["x-alphatier-alpha"] == "0.4"


async def test_many_seeds_and_long_prompts_at_once_do_not_end_the_engine(served: Served) -> None:
    # together more tokens than the engine takes in one step, none of them known to it
    sums = [" + ".join(str((first * 7919 + n * n) % 97) for n in range(150)) for first in range(64)]
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as sdk:
        answers = await asyncio.gather(
            *(
                sdk.chat.completions.create(
                    model="tiny:base", messages=[{"role": "user", "content": one}], seed=number, max_tokens=4
                )
                for number, one in enumerate(sums)
            )
        )
    assert all(answer.usage and answer.usage.completion_tokens == 4 for answer in answers)


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_of_openais_is_mapped(served: Served, effort: Any) -> None:
    raw = served.sdk().chat.completions.with_raw_response.create(
        model="tiny", messages=MESSAGES, reasoning_effort=effort
    )
    assert raw.headers["x-alphatier-tier"] == FAMILY.efforts[effort]
    assert raw.headers["x-alphatier-decision"] == "effort"


async def test_the_async_client_streams_reasoning_apart_from_the_answer(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as sdk:
        stream = await sdk.chat.completions.create(
            model="tiny:base", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    reasoning = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    content = "".join(delta.content or "" for delta in deltas)
    usage = chunks[-1].usage
    assert "<think>" not in reasoning + content
    assert "\\boxed{" in content
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens is not None
    assert bool(reasoning) == bool(usage.completion_tokens_details.reasoning_tokens)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_plain_completions_work_streamed_and_not(served: Served) -> None:
    sdk = served.sdk()
    whole = sdk.completions.create(model="tiny", prompt="What is 3 + 4?", max_tokens=8)
    assert whole.usage is not None
    assert 1 <= whole.usage.completion_tokens <= 8
    parts = sdk.completions.create(model="tiny", prompt="What is 3 + 4?", max_tokens=8, stream=True)
    assert "".join(part.choices[0].text for part in parts)


def test_several_choices_and_logprobs_pass_through(served: Served) -> None:
    answer = served.sdk().chat.completions.create(
        model="tiny", messages=MESSAGES, n=3, logprobs=True, top_logprobs=2, seed=1
    )
    assert len(answer.choices) == 3
    assert answer.choices[0].logprobs is not None


@pytest.mark.parametrize("question", ["", "hello?", "¿Qué es ☃ + ♥?", "17 + + 2", "x" * 500, "What is 99999 * 3?"])
def test_a_malformed_question_gets_an_answer_and_not_a_crash(served: Served, question: str) -> None:
    answer = served.sdk().chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": question}], max_tokens=256
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_what_the_engine_refuses_is_the_sdks_own_exception(served: Served) -> None:
    with pytest.raises(openai.BadRequestError):
        served.sdk().chat.completions.create(model="tiny", messages=MESSAGES, temperature=-3)


def test_tokens_counted_by_tier_are_the_tokens_that_clients_saw(served: Served) -> None:
    before = {tier: served.metric("alphatier_completion_tokens_total", tier=tier) for tier in TIERS}
    seen = dict.fromkeys(TIERS, 0)
    sdk = served.sdk()
    for tier in TIERS:
        whole = sdk.chat.completions.create(model=f"tiny:{tier}", messages=MESSAGES, n=2)
        chunks = list(
            sdk.chat.completions.create(
                model=f"tiny:{tier}", messages=MESSAGES, stream=True, n=2, stream_options={"include_usage": True}
            )
        )
        assert whole.usage is not None
        assert chunks[-1].usage is not None
        seen[tier] += whole.usage.completion_tokens + chunks[-1].usage.completion_tokens
    after = {tier: served.metric("alphatier_completion_tokens_total", tier=tier) for tier in TIERS}
    assert {tier: after[tier] - before[tier] for tier in TIERS} == seen


async def test_a_client_that_leaves_aborts_the_request_in_the_engine(served: Served) -> None:
    def generated() -> float:
        return served_engine_metric(served, "vllm:generation_tokens_total")

    def engine_is_idle() -> bool:
        # vLLM refreshes its gauges when it works, so it is given a word to say
        served.sdk().chat.completions.create(model="tiny:alpha-0.4", messages=MESSAGES, max_tokens=1)
        return served_engine_metric(served, "vllm:num_requests_running") == 0

    generated_before = generated()
    tokens_before = served.metric("alphatier_completion_tokens_total", tier="base")
    # choices that never end by themselves: 128 x about 500 tokens, if nobody stops them
    body = {"model": "tiny:base", "messages": MESSAGES, "stream": True, "ignore_eos": True, "n": 128}
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = 0
        async for line in response.aiter_lines():
            lines += line.startswith("data: {")
            if lines > 400:
                break
    await asyncio.to_thread(until, engine_is_idle, 30)
    await asyncio.to_thread(until, lambda: served.metric("alphatier_requests_in_flight") == 0, 10)
    assert generated() - generated_before < 128 * 400
    assert served.metric("alphatier_client_disconnects_total", tier="base") >= 1
    # what the engine had told by then is counted
    assert served.metric("alphatier_completion_tokens_total", tier="base") > tokens_before


def served_engine_metric(served: Served, name: str, **labels: str) -> float:
    """A metric of the vLLM behind the gateway."""
    arguments = served.engine_main().cmdline()
    port = arguments[arguments.index("--port") + 1]
    return metric_value(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text, name, **labels)


def test_a_second_gateway_finds_the_running_engine_by_url(served: Served, tmp_path: Path) -> None:
    engine = served.engine_main()
    arguments = engine.cmdline()
    url = f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}"
    options = ("--engine", url, "--engine-api-key", engine.environ()["VLLM_API_KEY"])
    with serving(ROOT, "--family", str(SHIPPED), *options, logs=tmp_path) as second:
        assert second.descendants() == []
        answer = second.sdk().chat.completions.create(model="tiny:alpha-0.4", messages=MESSAGES)
        assert answer.usage is not None
        counted = second.metric("alphatier_completion_tokens_total", tier="alpha-0.4")
        assert counted == answer.usage.completion_tokens


def test_metrics_pass_promtool(served: Served) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=served.metrics(), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_real_prometheus_answers_tokens_by_tier(served: Served, tmp_path: Path) -> None:
    served.sdk().chat.completions.create(model="tiny:alpha-0.4", messages=MESSAGES)
    query = "sum by (tier) (alphatier_completion_tokens_total)"
    with prometheus(served.url.removeprefix("http://"), tmp_path) as url:

        def asked() -> dict[str, float]:
            answer = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
            return {r["metric"]["tier"]: float(r["value"][1]) for r in answer["data"]["result"]}

        until(lambda: set(asked()) >= set(TIERS), 30)
        assert asked()["alpha-0.4"] == served.metric("alphatier_completion_tokens_total", tier="alpha-0.4")


def test_an_engine_killed_in_mid_stream_is_a_clean_error_and_comes_back(served: Served) -> None:
    # the last test of this file: it costs the engine a restart
    stream = served.sdk().chat.completions.create(
        model="tiny:base", messages=MESSAGES, stream=True, n=128, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    kill_hard(served.engine_main())
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass
    until(lambda: not served.ready(), 10)
    with pytest.raises(openai.InternalServerError) as caught:
        served.sdk().chat.completions.create(model="tiny", messages=MESSAGES)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"]
    until(served.ready, 240, process=served.process, log=served.log)
    answer = served.sdk().chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.choices[0].message.content
    assert served.metric("alphatier_engine_restarts_total") == 1
    assert served.metric("alphatier_requests_in_flight") == 0
