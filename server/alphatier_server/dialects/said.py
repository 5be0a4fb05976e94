"""What an answer says, in any of the APIs: its text without the thinking, whole or as events. Pure.

Of several choices it is the first. A stream may have lost its beginning; an event that cannot be read says nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from alphatier_server.dialects.events import END, read_event
from alphatier_server.dialects.json_object import object_or_empty, objects_in


def text_of(answer: bytes, *, streamed: bool) -> str:
    """The text of an answer as the client got it."""
    if not streamed:
        return "".join(_whole(_document(answer)))
    events = (_document(read_event(event)[1]) for event in answer.split(END))
    return "".join(piece for event in events if isinstance(piece := _piece(event), str))


def _whole(answer: Mapping[str, Any]) -> Iterable[str]:
    for choice in objects_in(answer.get("choices"))[:1]:
        yield from _texts(object_or_empty(choice.get("message")).get("content", choice.get("text")))
    for item in objects_in(answer.get("output")):  # the Responses API
        if item.get("type") == "message":
            yield from _texts(item.get("content"))
    yield from _texts(answer.get("content"))  # the Messages API


def _texts(content: Any) -> Iterable[str]:
    """A text, or the texts of a list of parts; thinking is in parts of another kind."""
    if isinstance(content, str):
        yield content
    for part in objects_in(content):
        if part.get("type") in ("text", "output_text") and isinstance(text := part.get("text"), str):
            yield text


def _piece(event: Mapping[str, Any]) -> Any:
    kind, delta = event.get("type"), event.get("delta")
    if kind == "response.output_text.delta":
        return delta
    if kind == "content_block_delta":
        return object_or_empty(delta).get("text")
    choice = next(iter(objects_in(event.get("choices"))), {})
    return object_or_empty(choice.get("delta")).get("content", choice.get("text"))


def _document(raw: bytes) -> Mapping[str, Any]:
    try:
        return object_or_empty(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return {}
