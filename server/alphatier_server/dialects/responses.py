"""OpenAI's Responses API (`POST /v1/responses`, https://platform.openai.com/docs/api-reference/responses).

The engine's own support does the work (vLLM; `transformers serve`). Changed on the way are the model, the
effort (it chooses the tier and stays here, but the answer shows it), and what only the gateway asked for.

Responses are not stored: an engine keeps them in its own memory, where neither its other replicas nor
another gateway find them, and vLLM never frees them. What needs a stored response is refused, so that
nobody takes an answer without its context for one with it; `input` carries the conversation instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import (
    SELECTOR_FIELDS,
    Effort,
    openai_efforts,
    refuse_thinking_token_budget,
    take_effort_out,
)
from alphatier_server.dialects.engine_errors import message_of
from alphatier_server.dialects.events import EventRelay, Token, event_bytes, read_event, with_member
from alphatier_server.dialects.json_object import JsonObject, object_or_empty, objects_in
from alphatier_server.dialects.usage import RESPONSES, Usage, queue_seconds_of, token_count, without_reasoning_tokens
from alphatier_server.errors import GatewayError, InvalidRequest

_TOKENS: dict[bytes, Token] = {
    b"response.reasoning_text.delta": "thinking",
    b"response.reasoning_summary_text.delta": "thinking",
    b"response.output_text.delta": "answer",
    b"response.refusal.delta": "answer",
    b"response.function_call_arguments.delta": "answer",
    b"response.custom_tool_call_input.delta": "answer",
    b"response.mcp_call_arguments.delta": "answer",
    b"response.code_interpreter_call_code.delta": "answer",
}
_LAST = ("response.completed", "response.incomplete", "response.failed")

_STORED = {
    "previous_response_id": "Responses are not stored here; send the conversation in input.",
    "conversation": "Conversations are not stored here; send the conversation in input.",
    "background": "Responses are not stored here, so none can be fetched later; leave background out.",
    "store": "Responses are not stored here; leave store out, or send false.",
}


class ResponsesDialect(Dialect):
    """`/v1/responses`."""

    path = "/v1/responses"
    endpoint = "responses"

    def efforts(self, body: Mapping[str, Any]) -> Sequence[Effort]:
        """`reasoning.effort`. Raises InvalidRequest, also for what needs a stored response."""
        for field, remedy in _STORED.items():
            if body.get(field) not in (None, False):
                raise InvalidRequest(f"{field} is not supported. {remedy}", code="unsupported_parameter", param=field)
        refuse_thinking_token_budget(body, "Engines ignore it in this API; /v1/chat/completions keeps to it.")
        return openai_efforts(body)

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The body with the engine's model name and priority, and `store` off, without selectors."""
        replace: dict[str, Any] = {"model": target.engine_model, "store": False}
        remove = {*SELECTOR_FIELDS, "reasoning_effort"}
        if target.priority is not None:
            replace["priority"] = target.priority
        take_effort_out(body.values, "reasoning", replace, remove)
        return body.edited(replace, remove)

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        return ResponsesRelay(target, _effort(body))

    def edited_answer(self, answer: JsonObject, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        replace, remove, usage = _changes(answer.values, target, _effort(body))
        seen = Observed(usage, queue_seconds=queue_seconds_of(answer.values), cut_off=_is_cut_off(answer.values))
        return answer.edited(replace, remove), seen

    def error_event(self, error: GatewayError, relay: Relay | None = None) -> bytes:
        """The API's `error` event; with an `error` object as well, which is what makes OpenAI's SDK raise."""
        number = relay.next_sequence_number if isinstance(relay, ResponsesRelay) else 0
        inner = error.document()["error"]
        flat = {"code": inner.get("code"), "message": inner.get("message"), "param": inner.get("param")}
        return event_bytes("error", {"type": "error", **flat, "sequence_number": number, "error": inner})


class ResponsesRelay(EventRelay):
    """The relay of one stream of the Responses API. `effort` is the client's; the engine was not told it."""

    reads = frozenset({"response.created", "response.queued", "response.in_progress", *_LAST, "error"})

    def __init__(self, target: Target, effort: str | None = None) -> None:
        super().__init__(target)
        self._effort = effort

    @property
    def next_sequence_number(self) -> int:
        """The number of an event that would be sent now."""
        try:
            last = orjson.loads(read_event(self._last)[1])
        except orjson.JSONDecodeError:
            return 0
        number = token_count(object_or_empty(last).get("sequence_number"))
        return 0 if number is None else number + 1

    def token(self, name: bytes, event: bytes) -> Token | None:
        part = _TOKENS.get(name)
        return None if part is None or b'"delta":""' in event or b'"delta": ""' in event else part

    def read(self, name: str, event: bytes, document: JsonObject) -> bytes:
        if name == "error":
            self.end(_error(object_or_empty(document.values.get("error")) or document.values))
            return event
        response = object_or_empty(document.values.get("response"))
        if name in _LAST:
            self.end(_error(object_or_empty(response.get("error"))) if name == "response.failed" else None)
            self._seen.cut_off = _is_cut_off(response)
        if not isinstance(document.values.get("response"), dict):
            return event
        replace, remove, usage = _changes(response, self._target, self._effort)
        self._usage = usage or self._usage
        self._seen.queue_seconds = queue_seconds_of(response) or self._seen.queue_seconds
        return with_member(event, document, "response", replace, remove)


def _changes(
    response: Mapping[str, Any], target: Target, effort: str | None
) -> tuple[dict[str, Any], tuple[str, ...], Usage | None]:
    """Members of a response object to replace and to remove, and its usage.

    An engine that counts no reasoning tokens although there is reasoning cannot know their number.
    """
    replace: dict[str, Any] = {} if response.get("model") == target.model else {"model": target.model}
    reasoning = object_or_empty(response.get("reasoning"))
    if effort is not None and reasoning.get("effort") != effort:
        replace["reasoning"] = {**reasoning, "effort": effort}
    usage = Usage.parse(response.get("usage"), RESPONSES)
    if usage is not None and usage.reasoning == 0 and _has_thinking(response, target.mark):
        usage = usage._replace(reasoning=None)
        replace["usage"] = without_reasoning_tokens(response["usage"], RESPONSES[2])
    return replace, ("metrics",) if target.adds_metrics and "metrics" in response else (), usage


def _is_cut_off(response: Mapping[str, Any]) -> bool:
    return object_or_empty(response.get("incomplete_details")).get("reason") == "max_output_tokens"


def _effort(body: Mapping[str, Any]) -> str | None:
    """The client's effort, which the engine is not told and its answer therefore lacks."""
    effort: str | None = object_or_empty(body.get("reasoning")).get("effort")
    return effort


def _has_thinking(response: Mapping[str, Any], mark: str | None) -> bool:
    """Whether the output has reasoning, as an item of its own or, from an engine that does not split, as text."""
    for item in objects_in(response.get("output")):
        if item.get("type") == "reasoning":
            return True
        texts = (part.get("text") for part in objects_in(item.get("content")))
        if mark is not None and any(isinstance(text, str) and text.lstrip().startswith(mark) for text in texts):
            return True
    return False


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    code = error.get("code")
    return {"message": message_of(error), "code": code if isinstance(code, str | int) else None}
