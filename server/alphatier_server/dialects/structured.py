"""Whether a request binds the model to JSON: what a model without braces in its vocabulary cannot do."""

from collections.abc import Mapping
from typing import Any

from alphatier_server.dialects.json_object import object_or_empty

_FORMATS = (("response_format",), ("text", "format"), ("output_config", "format"), ("output_format",))
_SIMPLE = ("integer", "number", "boolean", "null")
"""Types of JSON that are written without braces and quotes."""
_MEMBERS = frozenset({"structured_outputs", "tool_choice", *(path[0] for path in _FORMATS)})


def json_demand(body: Mapping[str, Any]) -> str | None:
    """The field that demands it, in any of the APIs; None where none does or where a number or the like will do.

    >>> json_demand({"text": {"format": {"type": "json_schema"}}})
    'text.format'
    """
    if _MEMBERS.isdisjoint(body):  # as most requests are
        return None
    for path in _FORMATS:
        value: Any = body
        for name in path:
            value = object_or_empty(value).get(name)
        wish = object_or_empty(value)
        if str(wish.get("type", "")).startswith("json") and not _is_simple(
            object_or_empty(wish.get("json_schema", wish)).get("schema")
        ):
            return ".".join(path)
    grammar = object_or_empty(body.get("structured_outputs"))
    if grammar.get("json_object") or ((schema := grammar.get("json")) and not _is_simple(schema)):
        return "structured_outputs"
    choice = body.get("tool_choice")
    return "tool_choice" if choice == "required" or (isinstance(choice, dict) and body.get("tools")) else None


def _is_simple(schema: Any) -> bool:
    return object_or_empty(schema).get("type") in _SIMPLE
