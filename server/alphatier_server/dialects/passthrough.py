"""Paths that the gateway only passes on (embeddings, rerank, tokenize, audio): the model's name is all that changes.

The body of a POST is a JSON object; what the engine answers, JSON or not, whole or as a stream, goes to the client
as it came.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson

from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import SELECTOR_FIELDS, Effort
from alphatier_server.dialects.json_object import JsonObject, object_or_empty
from alphatier_server.dialects.usage import Usage, token_count
from alphatier_server.errors import GatewayError

# Within a JSON string the quotes would be escaped, so this is a key wherever it stands.
_KEY: Final = b'"usage"'
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


class PassthroughDialect(Dialect):
    """One such path. A key's limits of tokens do not count what it uses."""

    generates = False
    methods: ClassVar[tuple[str, ...]] = ("POST", "GET")
    as_it_came: ClassVar[bool] = True
    keep_alive: ClassVar[bytes] = b""

    def __init__(self, path: str) -> None:
        self.path = path
        self.endpoint = path.removeprefix("/v1").strip("/")

    def efforts(self, body: Mapping[str, Any]) -> Sequence[Effort]:
        """None: what `reasoning_effort` means to such a path is the engine's business."""
        return ()

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The body with the engine's model name and without what chose the tier."""
        replace: dict[str, Any] = {"model": target.engine_model}
        if target.priority is not None and "priority" in body.values:
            replace["priority"] = target.priority
        return body.edited(replace, SELECTOR_FIELDS)

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        return PassthroughRelay()

    def answer(self, raw: bytes, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        """The answer as it came, and its `usage` where it has one."""
        return raw, Observed(usage=usage_of(raw))

    def error_event(self, error: GatewayError, relay: Relay | None = None) -> bytes:
        """Nothing: the stream may be sound, in which words have no meaning."""
        return b""


class PassthroughRelay(Relay):
    """Bytes in, the same bytes out; what they were is not known, and the stream ends when the engine ends it."""

    def feed(self, data: bytes) -> bytes:
        if data:
            self.note_token(answer=False)
        return data

    def finish(self) -> bytes:
        return b""


def usage_of(raw: bytes) -> Usage | None:
    """The last `usage` object of an answer, found without reading the rest, which may be megabytes of numbers."""
    found = _USAGE.match(raw, max(raw.rfind(_KEY), 0))
    if found is None:
        return None
    try:
        values = object_or_empty(orjson.loads(found[1]))
    except orjson.JSONDecodeError:
        return None
    completion = token_count(values.get("completion_tokens")) or 0
    prompt, total = (token_count(values.get(name)) for name in ("prompt_tokens", "total_tokens"))
    if prompt is None and total is not None:
        prompt = total - completion
    return Usage.of(prompt, completion)
