"""Whether a request binds the model to JSON: what a model without braces in its vocabulary cannot do."""

from collections.abc import Mapping
from typing import Any

from alphatier_server.dialects.bodies import object_or_empty

_FORMATS = (("response_format",), ("text", "format"), ("output_config", "format"), ("output_format",))
_GRAMMARS = ("json", "json_object")


def json_demand(body: Mapping[str, Any]) -> str | None:
    """The field that demands it, in any of the APIs; None where none does.

    >>> json_demand({"text": {"format": {"type": "json_schema"}}})
    'text.format'
    """
    for path in _FORMATS:
        value: Any = body
        for name in path:
            value = object_or_empty(value).get(name)
        if str(object_or_empty(value).get("type", "")).startswith("json"):
            return ".".join(path)
    if any(object_or_empty(body.get("structured_outputs")).get(name) for name in _GRAMMARS):
        return "structured_outputs"
    choice = body.get("tool_choice")
    return "tool_choice" if choice == "required" or (isinstance(choice, dict) and body.get("tools")) else None
