"""An engine's error answer, in whatever shape, as OpenAI's error object. Pure.

The shapes: OpenAI's and vLLM's `{"error": {...}}`; SGLang's and older vLLM's `{"object": "error", "message": ...}`;
FastAPI's `{"detail": ...}`; `{"error": "..."}` and `{"message": "..."}` of proxies; their HTML pages; plain text.
"""

import html
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

LONGEST: Final = 500
"""Characters of a message."""

SILENT: Final = "The engine gave no reason."

_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.I)
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)</title>", re.I)


def engine_message(body: bytes) -> dict[str, Any]:
    """The error object: `message` (at most 500 characters, never empty), `type`, `param` and `code`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _error(_plain(body))
    if isinstance(document, str):
        return _error(document)
    if not isinstance(document, dict):
        return _error(_plain(body))
    said = document.get("error") or document.get("detail") or document
    fields = said if isinstance(said, dict) else {}
    words = fields.get("message") or document.get("message") or (_validation(said) if said is not fields else None)
    return _error(words if isinstance(words, str) else _plain(body), fields)


def message_of(error: Mapping[str, Any]) -> str:
    """The message of an error object in a stream."""
    message = error.get("message")
    return _cut(message) if isinstance(message, str) else SILENT


def _error(message: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
    kind, param, code = (None,) * 3 if fields is None else (fields.get(name) for name in ("type", "param", "code"))
    return {
        "message": _cut(message),
        "type": kind if isinstance(kind, str) else "invalid_request_error",
        "param": param if isinstance(param, str) else None,
        "code": code if isinstance(code, str) or type(code) is int else None,
    }


def _cut(message: str) -> str:
    message = message.strip()
    return (message if len(message) <= LONGEST else message[: LONGEST - 1] + "…") or SILENT


def _plain(body: bytes) -> str:
    """The words of what is no JSON object: of a page its title."""
    text = body[:65536].decode("utf-8", "replace")
    if _PAGE.match(text) is None:
        return text
    title = _TITLE.search(text)
    return html.unescape(title[1]) if title is not None else "It answered with a page in HTML."


def _validation(detail: Any) -> str | None:
    """FastAPI's words for a request that is not valid: a text, or a list of faults with their places."""
    if not isinstance(detail, list):
        return detail if isinstance(detail, str) else None
    faults = [fault for fault in detail[:10] if isinstance(fault, dict) and isinstance(fault.get("msg"), str)]
    return "; ".join(f"{_path(fault.get('loc'))}{fault['msg']}" for fault in faults) or None


def _path(path: Any) -> str:
    steps = [str(step) for step in path if isinstance(step, str | int)] if isinstance(path, list) else []
    return ".".join(steps) + ": " if steps else ""
