"""The shipped family on `transformers serve`, the engine of machines without a vLLM wheel."""

from collections.abc import Iterator
from typing import Any

import pytest

from alphatier_models import load_family
from support.processes import Served, serving

from .conftest import ROOT, SHIPPED

pytestmark = pytest.mark.engine

TIERS = [tier.name for tier in load_family(SHIPPED, checksums=False).tiers]
MESSAGES: Any = [{"role": "user", "content": "What is 17 + 25 - 8?"}]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    logs = tmp_path_factory.mktemp("light")
    with serving(ROOT, "--family", str(SHIPPED), "--engine", "transformers", logs=logs) as running:
        yield running


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_answers_with_its_thinking_apart(light: Served, tier: str) -> None:
    answer: Any = light.sdk().chat.completions.create(model=f"tiny:{tier}", messages=MESSAGES)
    assert answer.model == f"tiny:{tier}"
    assert "\\boxed{" in answer.choices[0].message.content
    assert "<think>" not in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert answer.usage.completion_tokens_details is None  # this engine cannot tell thinking from answer


def test_a_stream_has_the_usage_that_was_asked_for_and_is_counted(light: Served) -> None:
    before = light.metric("alphatier_completion_tokens_total", tier="base")
    stream = light.sdk().chat.completions.create(
        model="tiny:base", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert "\\boxed{" in content
    assert "think>" not in content
    assert usage is not None
    assert light.metric("alphatier_completion_tokens_total", tier="base") - before == usage.completion_tokens


def test_a_response_streams_and_is_counted(light: Served) -> None:
    before = light.metric("alphatier_completion_tokens_total", endpoint="responses")
    with light.sdk().responses.stream(model="tiny:base", input="What is 3 + 4?") as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert answer.model == "tiny:base"
    assert "\\boxed{" in answer.output_text  # this engine leaves the thinking in the text
    assert answer.usage is not None
    after = light.metric("alphatier_completion_tokens_total", endpoint="responses")
    assert after - before == answer.usage.output_tokens
    assert light.metric("alphatier_reasoning_tokens_total", endpoint="responses") == 0
