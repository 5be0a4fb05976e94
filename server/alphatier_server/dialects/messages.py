"""Anthropic's Messages API (`POST /v1/messages`, https://platform.claude.com/docs/en/api/messages).

vLLM's own support does the work: it turns messages into chat and back. Changed on the way are the model
and the shape of errors. What chooses the tier stays here: `output_config.effort`, and `thinking` where
it is `disabled`. A thinking budget goes on to the engine, as a hard cap on the thinking.

Effort and budget are independent in Anthropic's documentation ("Effort"): the effort says how thorough
the answer is, the budget caps the thinking. So the effort chooses the tier where both are given, and a
budget chooses it only where no effort is; `disabled` wins over an effort, as it ends all thinking.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import (
    SELECTOR_FIELDS,
    Effort,
    Selector,
    TokenBudget,
    effort_field,
    refuse_thinking_token_budget,
    string_field,
    take_effort_out,
)
from alphatier_server.dialects.engine_errors import message_of
from alphatier_server.dialects.events import EventRelay, Token, event_bytes, read_event, with_data, with_member
from alphatier_server.dialects.json_object import JsonObject, object_or_empty
from alphatier_server.dialects.usage import Usage, token_count
from alphatier_server.errors import GatewayError, InvalidRequest

ANTHROPIC_EFFORTS = ("low", "medium", "high", "xhigh", "max")

_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""By status, as in https://platform.claude.com/docs/en/api/errors; 503 is this gateway's 529."""


_CUT_OFF = "max_tokens"
"""Why an answer ended that was longer than it might be."""


class MessagesDialect(Dialect):
    """`/v1/messages`."""

    path = "/v1/messages"
    endpoint = "messages"
    request_id_headers: ClassVar[tuple[bytes, ...]] = (b"x-request-id", b"request-id")
    keep_alive: ClassVar[bytes] = b'event: ping\ndata: {"type":"ping"}\n\n'

    def efforts(self, body: Mapping[str, Any]) -> Sequence[Effort]:
        """The effort, the thinking budget, or both. Raises InvalidRequest."""
        refuse_thinking_token_budget(body, "In this API the budget is thinking.budget_tokens.")
        found: list[Effort] = []
        if (effort := object_or_empty(body.get("output_config")).get("effort")) is not None:
            place = "output_config.effort"
            found.append(Selector(place, effort_field(string_field(effort, place), place, ANTHROPIC_EFFORTS)))
        thinking = object_or_empty(body.get("thinking"))
        if thinking.get("type") == "disabled":
            return [Selector("thinking.type", "none")]
        if thinking.get("type") == "enabled":
            place = "thinking.budget_tokens"
            tokens = token_count(thinking.get("budget_tokens"))
            if not tokens:
                raise InvalidRequest(f"{place} must be a whole number above 0", code="invalid_type", param=place)
            found.append(TokenBudget(place, tokens))
        return found

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The body with the engine's model name, without what chose the tier.

        Without a priority as well: vLLM's Messages API has none, and takes all such requests as 0.
        """
        replace: dict[str, Any] = {"model": target.engine_model}
        remove = {*SELECTOR_FIELDS}
        take_effort_out(body.values, "output_config", replace, remove)
        if object_or_empty(body.values.get("thinking")).get("type") == "disabled":
            remove.add("thinking")
        return body.edited(replace, remove)

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        return MessagesRelay(target)

    def edited_answer(self, answer: JsonObject, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        values = answer.values
        seen = Observed(parse_usage(values.get("usage")), cut_off=values.get("stop_reason") == _CUT_OFF)
        return answer.edited(_renamed(values, target)), seen

    def error_body(self, error: GatewayError, request_id: str = "") -> bytes:
        return orjson.dumps(_error(error) | ({"request_id": request_id} if request_id else {}))

    def error_event(self, error: GatewayError, relay: Relay | None = None) -> bytes:
        return event_bytes("error", _error(error))


class CountTokensDialect(MessagesDialect):
    """`/v1/messages/count_tokens`: how long the prompt is. Generates nothing."""

    path = "/v1/messages/count_tokens"
    endpoint = "messages/count_tokens"
    generates = False
    edited_answer = Dialect.edited_answer  # the engine's count goes on as it came


class MessagesRelay(EventRelay):
    """The relay of one stream of the Messages API."""

    reads = frozenset({"message_start", "message_delta", "message_stop", "error"})

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._stopped = False
        self._counted = False
        """Whether the engine has told the tokens of the whole answer."""

    def usage(self) -> Usage | None:
        """The tokens as far as the engine told.

        The prompt's tokens come at the start and the generated ones only at the end. Of a stream that was
        left before, or ended without them, at least one token was generated for each delta that came.
        """
        usage = self._usage
        if usage is None or self._counted or usage.completion >= self._tokens:
            return usage
        return Usage(usage.prompt, self._tokens)

    def token(self, name: bytes, event: bytes) -> Token | None:
        if name != b"content_block_delta":
            return None
        if b'"text_delta"' in event or b'"input_json_delta"' in event:
            return "answer"
        return "thinking" if b'"thinking_delta"' in event else None

    def read(self, name: str, event: bytes, document: JsonObject) -> bytes:
        values = document.values
        if name == "error":
            return self._error(event, values)
        if name == "message_start" and isinstance(message := values.get("message"), dict):
            self._usage = parse_usage(message.get("usage"))
            return with_member(event, document, "message", _renamed(message, self._target))
        if name == "message_delta":
            reason = object_or_empty(values.get("delta")).get("stop_reason")
            stops = reason is not None
            self._stopped = self._stopped or stops
            self._seen.cut_off = self._seen.cut_off or reason == _CUT_OFF
            if (told := parse_usage(values.get("usage"), self._usage)) is not None:
                self._usage = told
                self._counted = self._counted or stops
        elif name == "message_stop":
            self.end()
        return event

    def complete(self) -> bytes:
        """`message_stop`, where the answer was complete but for it. Raises EngineFailed."""
        if not self._stopped:
            return super().complete()
        self.end()
        return event_bytes("message_stop", {"type": "message_stop"})

    def _error(self, event: bytes, values: Mapping[str, Any]) -> bytes:
        error = dict(object_or_empty(values.get("error")))
        message, kind = message_of(error), error.get("type")
        known = kind in (*_ERROR_TYPES.values(), "invalid_request_error", "api_error")
        self.end({"message": message, "type": kind if known else None})
        if known and isinstance(error.get("message"), str):
            return event
        document = {"type": "error", "error": {"type": "api_error", "message": message}}
        return with_data(event if read_event(event)[0] else b"event: error", orjson.dumps(document))


def parse_usage(document: Any, before: Usage | None = None) -> Usage | None:
    """Read the API's `usage` object; None when it is absent or is no usage.

    Anthropic counts prompt tokens read from or written to the cache apart; here they are prompt tokens.
    A later `usage` may leave out the prompt, which `before` then tells.
    """
    values = object_or_empty(document)
    prompt = token_count(values.get("input_tokens"))
    if prompt is not None:
        caches = (values.get("cache_read_input_tokens"), values.get("cache_creation_input_tokens"))
        prompt += sum(token_count(cached) or 0 for cached in caches)
    elif before is not None:
        prompt = before.prompt
    thinking = object_or_empty(values.get("output_tokens_details")).get("thinking_tokens")
    return Usage.of(prompt, values.get("output_tokens"), thinking)


def _renamed(message: Mapping[str, Any], target: Target) -> dict[str, Any]:
    return {} if message.get("model") == target.model else {"model": target.model}


def _error(error: GatewayError) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    message = error.document()["error"].get("message")
    return {"type": "error", "error": {"type": kind, "message": str(message)}}
