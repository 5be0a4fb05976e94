"""The OpenAPI document: valid, complete, and of one piece with what the gateway does."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from alphatier_models import EFFORTS
from alphatier_server.app import DIALECTS, AppSettings, Parts, assemble
from alphatier_server.errors import GatewayError
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from support.families import small_family

OWN = ["401", "403", "404", "408", "413", "429", "4XX", "500", "502", "503", "504", "5XX"]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    metrics = Metrics()
    parts = Parts({"toy": small_family(tmp_path / "toy")}, Pool(metrics), metrics)
    return assemble(AppSettings(), parts).app.openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{verb} {path}", op) for path, item in document["paths"].items() for verb, op in item.items()]


def test_it_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(document)


def test_every_schema_in_it_is_a_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if not isinstance(part, dict):
            return []
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for item in part.values() for found in references(item)]

    found = references(document)
    assert found
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_every_generating_path_is_described(document: dict[str, Any]) -> None:
    for dialect in DIALECTS:
        operation = document["paths"][dialect.path]["post"]
        assert set(OWN) <= set(operation["responses"])
        assert operation["requestBody"]["required"] is True
        assert operation["security"] == [{"bearer": []}, {"api_key": []}, {}]
        names = {
            document["components"]["parameters"][p["$ref"].rpartition("/")[2]]["name"]
            for p in operation["parameters"]
        }
        assert names == {"X-Efficiency-Tier", "X-Request-Timeout", "X-Request-Id"}
        assert "text/event-stream" in operation["responses"]["200"]["content"] or "count" in dialect.path


def test_every_error_of_the_gateway_has_its_status_there(document: dict[str, Any]) -> None:
    def kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in kinds(child))]

    responses = document["paths"]["/v1/messages"]["post"]["responses"]
    for kind in kinds(GatewayError):
        status = str(kind.status)
        assert status in responses or f"{status[0]}XX" in responses


def test_every_operation_has_a_summary_and_the_one_error_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert {"4XX", "5XX"} <= set(operation["responses"]), name


def test_every_answer_says_what_kind_of_text_it_is(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer.get("content"), (name, status)
    assert "text/plain" in document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]


def test_models_may_need_a_key(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/models"]["get"]
    assert "401" in operation["responses"]
    assert {"bearer": []} in operation["security"]


def test_refusals_name_their_headers(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"retry-after", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests"} <= set(
        responses["429"]["headers"]
    )
    assert "retry-after" in responses["503"]["headers"]
    assert {"x-alphatier-tier", "x-alphatier-alpha", "x-alphatier-decision"} <= set(responses["200"]["headers"])


@pytest.mark.parametrize(
    ("name", "body", "good"),
    [
        ("ChatCompletionRequest", {"model": "toy", "messages": [{"role": "user", "content": "?"}]}, True),
        (
            "ChatCompletionRequest",
            {"model": "toy", "messages": [{"role": "user"}], "reasoning_effort": "huge"},
            False,
        ),
        ("ChatCompletionRequest", {"messages": []}, False),
        ("ResponseRequest", {"model": "toy", "input": "?", "reasoning": {"effort": "low"}}, True),
        ("ResponseRequest", {"model": "toy", "input": "?", "store": True}, False),
        ("ResponseRequest", {"model": "toy", "input": "?", "previous_response_id": "r"}, False),
        ("MessageRequest", {"model": "toy", "max_tokens": 5, "messages": [{"role": "user", "content": "?"}]}, True),
        (
            "MessageRequest",
            {"model": "toy", "max_tokens": 5, "messages": [], "output_config": {"effort": "none"}},
            False,
        ),
    ],
)
def test_bodies_are_told_right_from_wrong(document: dict[str, Any], name: str, body: Any, good: bool) -> None:
    schema = document["components"]["schemas"][name]
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(body) is good


def test_all_efforts_are_listed(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert schema["reasoning_effort"]["enum"] == [*EFFORTS, None]
