"""A real pretrained language model as a second family: SmolLM2-135M with two adapters, same gateway, same engine."""

from collections.abc import Iterator

import psutil
import pytest

from support.processes import Served, serving
from support.smollm import smol_family

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = smol_family(tmp_path_factory.mktemp("smol"))
    with serving(folder, "--family", str(folder), logs=tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_a_pretrained_model_answers_and_its_adapters_answer_otherwise(smol: Served) -> None:
    certainty = {}
    for tier in ("base", "first", "second"):
        answer = smol.sdk().chat.completions.create(
            model=f"smol:{tier}",
            messages=[{"role": "user", "content": "What is the capital of France? Answer in one word."}],
            temperature=0,
            max_tokens=12,
            logprobs=True,
        )
        assert answer.model == f"smol:{tier}"
        if tier == "base":
            assert "Paris" in (answer.choices[0].message.content or "")
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content
        certainty[tier] = logprobs.content[0].logprob
    assert len(set(certainty.values())) == 3, certainty


def test_its_tokens_are_counted_by_tier_and_reasoning_is_not_invented(smol: Served) -> None:
    raw = smol.sdk().chat.completions.with_raw_response.create(
        model="smol", messages=[{"role": "user", "content": "Hi"}], max_tokens=5, reasoning_effort="low"
    )
    usage = raw.parse().usage
    assert raw.headers["x-alphatier-tier"] == "second"
    assert usage is not None
    assert usage.completion_tokens_details is None
    assert smol.metric("alphatier_completion_tokens_total", family="smol", tier="second") >= usage.completion_tokens
    assert smol.metric("alphatier_reasoning_tokens_total", family="smol") == 0


def test_no_engine_outlives_a_gateway_that_was_killed(smol: Served) -> None:
    # the last test of this file: it ends the gateway
    engines = smol.descendants()
    assert len(engines) >= 2  # the guard and the engine at least
    smol.process.kill()
    smol.process.wait(10)
    _, alive = psutil.wait_procs(engines, timeout=30)
    assert alive == []
