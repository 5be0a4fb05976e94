"""What the answers of each API hold: whose they are, their text, their usage; they may be as odd as engines are."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

_ENDS = (b"data: [DONE]", b'"message_stop"', b'"response.completed"', b'"response.failed"', b'"error"')


@dataclass(slots=True)
class Answer:
    """What an answer, or one event of a streamed one, says."""

    id: str | None = None
    """Whose it is; None where the event does not say."""
    texts: list[str] = field(default_factory=list)
    usage: Any = None
    ends: bool = False
    """Whether it is the last event of a whole stream."""
    broken: bool = False
    """Whether it is an error event."""


def has_end(data: bytes) -> bool:
    """Whether the piece has a stream's end in it."""
    return any(end in data for end in _ENDS)


def whole(api: str, document: dict[str, Any]) -> Answer:
    """A whole answer. Raises what odd ones make Python raise."""
    return Answer(document["id"], list(_WHOLE[api](document)), document.get("usage"))


def event(api: str, document: dict[str, Any]) -> Answer:
    """One event, but `[DONE]`. Raises what odd ones make Python raise."""
    if api in ("chat", "completions"):
        return _chunk(document)
    return _response_event(document) if api == "responses" else _message_event(document)


def tokens_of(usage: Any) -> tuple[int | None, int | None]:
    """Generated tokens and those of them that were thinking, in any API's names; None for what is no number."""
    if not isinstance(usage, Mapping):
        return None, None
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    thinking: Any = None
    if isinstance(details, Mapping):
        thinking = details.get("reasoning_tokens", details.get("thinking_tokens"))
    tokens = usage.get("completion_tokens", usage.get("output_tokens"))
    return tokens if isinstance(tokens, int) else None, thinking if isinstance(thinking, int) else None


def _chunk(document: dict[str, Any]) -> Answer:
    if "error" in document:
        return Answer(broken=True)
    choices = document["choices"]
    texts = [_text(choice.get("delta", choice)) for choice in choices] if isinstance(choices, list) else []
    return Answer(document.get("id", ""), texts, document.get("usage"))


def _response_event(document: dict[str, Any]) -> Answer:
    name = str(document["type"])
    if name in ("error", "response.failed"):
        return Answer(broken=True)
    if name.endswith(".delta"):
        return Answer(document["item_id"].partition("-")[2], [str(document["delta"])])
    response = document.get("response")
    if not isinstance(response, dict):
        return Answer()
    return Answer(response.get("id", ""), usage=response.get("usage"), ends=name == "response.completed")


def _message_event(document: dict[str, Any]) -> Answer:
    name = document["type"]
    if name == "error":
        return Answer(broken=True)
    if name == "message_start":
        return Answer(document["message"]["id"])
    delta = document.get("delta")
    texts = [_text(delta)] if name == "content_block_delta" and isinstance(delta, dict) else []
    return Answer(None, texts, document.get("usage"), ends=name == "message_stop")


def _text(part: Mapping[str, Any]) -> str:
    names = ("reasoning", "content", "thinking", "text")
    return str(next((part[name] for name in names if part.get(name)), ""))


def _completion_texts(document: dict[str, Any]) -> Iterator[str]:
    for choice in sorted(document["choices"], key=itemgetter("index")):
        message = choice.get("message", choice)
        yield from (message.get("reasoning") or "", message.get("content") or message.get("text") or "")


def _response_texts(document: dict[str, Any]) -> Iterator[str]:
    for item in document["output"]:
        yield from (part["text"] for part in item["content"])


def _message_texts(document: dict[str, Any]) -> Iterable[str]:
    return (_text(block) for block in document["content"])


_WHOLE = {
    "chat": _completion_texts,
    "completions": _completion_texts,
    "responses": _response_texts,
    "messages": _message_texts,
}
