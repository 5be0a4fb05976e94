"""Any JSON in the places that the gateway reads: an answer, a refusal, or the engine's failure; never a crash."""

import contextlib
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphatier_models import Family
from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect, Target
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.messages import CountTokensDialect, MessagesDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.errors import EngineFailed, InvalidRequest, NotFound
from alphatier_server.gateway.decide import decide

DIALECTS: tuple[Dialect, ...] = (
    ChatDialect(),
    TextDialect(),
    ResponsesDialect(),
    MessagesDialect(),
    CountTokensDialect(),
)
TARGET = Target("toy:terse", "t", adds_metrics=True)

scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["low", "max", "none", "enabled", "disabled", "adaptive", "toy", "toy:terse", "auto", "reasoning"]
    ),
)
names = st.sampled_from(
    ["effort", "type", "budget_tokens", "format", "summary", "input_tokens", "output_tokens", "reasoning_tokens"]
)
anything = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=3),
)
request = st.fixed_dictionaries(
    {"model": st.sampled_from(["toy", "toy:careful", "toy:auto"])},
    optional=dict.fromkeys(
        (
            "reasoning",
            "reasoning_effort",
            "efficiency_tier",
            "thinking",
            "output_config",
            "store",
            "background",
            "previous_response_id",
            "thinking_token_budget",
            "stream",
            "stream_options",
            "metadata",
        ),
        anything,
    ),
)
answer = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("model", "usage", "output", "reasoning", "metrics", "choices", "content", "error"), anything
    ),
)


limits = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])


@limits
@given(dialect=st.sampled_from(DIALECTS), document=request)
def test_any_request_is_decided_or_refused_and_no_selector_reaches_the_engine(
    family: Family, dialect: Dialect, document: dict[str, Any]
) -> None:
    body = JsonObject(orjson.dumps(document))
    try:
        decide(body.values, (), {"toy": family}, dialect.efforts(body.values))
    except (InvalidRequest, NotFound):
        return
    sent = orjson.loads(dialect.engine_body(body, TARGET))
    assert sent["model"] == TARGET.engine_model
    assert "efficiency_tier" not in sent
    effort = "output_config" if isinstance(dialect, MessagesDialect) else "reasoning"
    assert not (isinstance(sent.get(effort), dict) and "effort" in sent[effort])
    untouched = {"metadata", "previous_response_id", "background"} & set(document)
    assert {name: sent[name] for name in untouched} == {name: document[name] for name in untouched}


@limits
@given(dialect=st.sampled_from(DIALECTS), document=answer, request_body=request)
def test_any_answer_is_passed_on_under_the_public_name(
    dialect: Dialect, document: dict[str, Any], request_body: dict[str, Any]
) -> None:
    out, observed = dialect.answer(orjson.dumps(document), request_body, TARGET)
    read = orjson.loads(out)
    assert isinstance(dialect, CountTokensDialect) or read["model"] == "toy:terse"
    assert read.get("content") == document.get("content")
    usage = observed.usage
    assert usage is None or (usage.prompt >= 0 and usage.completion >= 0)


@limits
@given(dialect=st.sampled_from(DIALECTS), raw=st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_the_engines_failure(dialect: Dialect, raw: bytes) -> None:
    with contextlib.suppress(EngineFailed):
        dialect.answer(raw, {}, TARGET)
