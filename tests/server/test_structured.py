"""Requests that bind a model to JSON which has no braces in its vocabulary."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from alphatier_server.dialects.structured import json_demand
from support.families import small_family
from support.processes import serving
from support.raw_engine import raw_engine


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            "response_format",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": [7]}}, "response_format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "number"}}}}, None),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": ["number"]}}}}, "text.format"),
        ({"structured_outputs": {"json": {"type": "integer"}}}, None),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
        ({"structured_outputs": {"json": {}}}, None),
        ({"structured_outputs": {"json": {"type": "object"}}}, "structured_outputs"),
        ({"tools": [{}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{}], "tool_choice": "auto"}, None),
        ({"response_format": 7, "text": [], "output_config": None}, None),
    ],
)
def test_a_demand_for_json_is_found_in_every_api(body: dict[str, Any], field: str | None) -> None:
    assert json_demand(body) == field


def test_a_family_without_braces_refuses_json_with_a_clear_400(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    vocabulary = {"model": {"type": "WordLevel", "vocab": {"a": 0, "1": 1}}}
    (tmp_path / "toy" / "base" / "tokenizer.json").write_text(json.dumps(vocabulary))
    with raw_engine() as engine:
        options = ("--family", "toy", "--no-checksums", "--engine", engine.url)
        with serving(tmp_path, *options, logs=tmp_path) as served:
            body = {"model": "toy", "messages": [], "response_format": {"type": "json_object"}}
            answer = httpx.post(f"{served.url}/v1/chat/completions", json=body)
        assert engine.requests == []
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "json_not_supported")
