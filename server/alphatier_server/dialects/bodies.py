"""Small things that several APIs' bodies have in common."""

from collections.abc import Collection, Mapping
from typing import Any

from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import EngineFailed, InvalidRequest


def read_answer(raw: bytes) -> JsonObject:
    """An engine's whole answer. Raises EngineFailed when it is no JSON object."""
    try:
        return JsonObject(raw)
    except JsonError as error:
        raise EngineFailed(f"The engine's answer cannot be read: {error}.", code="engine_failed") from error


def edited_answer(document: JsonObject, replace: Mapping[str, Any], remove: Collection[str] = ()) -> bytes:
    """The answer with few members changed; as it came when there are none. Raises EngineFailed."""
    if not replace and not remove:
        return document.raw
    try:
        return document.edited(replace, remove)
    except JsonError as error:
        raise EngineFailed(f"The engine's answer cannot be read: {error}.", code="engine_failed") from error


def refuse_thinking_token_budget(body: Mapping[str, Any], remedy: str) -> None:
    """Refuse a hard cap that the engine would ignore without a word. Raises InvalidRequest."""
    if body.get("thinking_token_budget") is not None:
        raise InvalidRequest(
            f"thinking_token_budget is not supported here. {remedy}",
            code="unsupported_parameter",
            param="thinking_token_budget",
        )


def take_member_out(body: Mapping[str, Any], outer: str, key: str, replace: dict[str, Any], remove: set[str]) -> None:
    """Note the changes that take `key` out of a body's object `outer`, and all of `outer` if it is empty then."""
    values = object_or_empty(body.get(outer))
    if key in values:
        if rest := without(values, key):
            replace[outer] = rest
        else:
            remove.add(outer)


def without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The same without one member."""
    return {name: value for name, value in values.items() if name != key}


def object_or_empty(value: Any) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
