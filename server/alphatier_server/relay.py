"""From the engine's bytes to the client's: what must change, and nothing else. No I/O.

What changes: `model` becomes the public name; usage that only the gateway asked for is taken out; the
thinking is split from the answer where the engine did not; a reasoning count that the engine cannot
know is taken out. All other bytes pass unchanged. On the way the relay notes usage and the moments of
the first token, the first answer token and the last one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from alphatier_models import Reasoning
from alphatier_server.errors import EngineFailed
from alphatier_server.json_object import JsonError, JsonObject
from alphatier_server.reasoning import ReasoningSplitter, split_message
from alphatier_server.usage import Usage, UsageTally


@dataclass(frozen=True)
class RelayPlan:
    """What to change in the answer to one request."""

    model: str
    """The public model name."""
    marks: Reasoning | None = None
    """How the family marks its thinking; None to leave the text alone (plain completions)."""
    keep_usage: bool = False
    """The client asked for a usage chunk (`stream_options.include_usage`)."""
    keep_continuous_usage: bool = False
    """The client asked for usage in every chunk (`stream_options.continuous_usage_stats`)."""
    strip_metrics: bool = False
    """The engine adds `metrics` because the gateway asked it to; the client did not."""


@dataclass
class Observed:
    """What the relay saw. Moments are `time.perf_counter` seconds."""

    usage: Usage | None = None
    first_token: float | None = None
    first_answer_token: float | None = None
    last_token: float | None = None
    queue_seconds: float | None = None
    error: dict[str, Any] | None = None
    """The error object, when the engine ended the stream with an error event."""


def relay_response(raw: bytes, plan: RelayPlan) -> tuple[bytes, Observed]:
    """The client's bytes for a whole (not streamed) answer. Raises EngineFailed when it is no JSON object."""
    try:
        document = JsonObject(raw)
    except JsonError as error:
        raise EngineFailed(f"The engine's answer cannot be read: {error}.", code="engine_failed") from error
    tally = UsageTally()
    tally.see_response(document.values)
    replace: dict[str, Any] = {"model": plan.model}
    choices = document.values.get("choices")
    if plan.marks is not None and isinstance(choices, list):
        split = [_split_choice(choice, plan.marks) for choice in choices]
        if split != choices:
            replace["choices"] = choices = split
    observed = Observed(usage=tally.result(), queue_seconds=_queue_seconds(document.values))
    if _invented_zero(observed.usage, _has_reasoning(choices, "message")):
        assert observed.usage is not None
        observed.usage = observed.usage.without_reasoning()
        replace["usage"] = _without_reasoning_tokens(document.values["usage"])
    remove = {"metrics"} if plan.strip_metrics else set()
    return document.edited(replace, remove), observed


class StreamRelay:
    """Server-sent events from the engine in, server-sent events for the client out.

    `feed` takes bytes as they arrive, split anywhere, and returns the bytes to send; `finish` is called
    once the engine has closed the stream. `observed` is right at any moment, so that a cancelled
    request is accounted for as far as the engine told.
    """

    def __init__(self, plan: RelayPlan, clock: Callable[[], float] = time.perf_counter) -> None:
        self._plan = plan
        self._clock = clock
        self._buffer = b""
        self._tally = UsageTally()
        self._observed = Observed()
        self._splitters: dict[int, ReasoningSplitter | None] = {}
        self._saw_reasoning = False
        self._saw_done = False
        self._saw_finish = False
        self._sent_usage = False
        self._last_chunk: dict[str, Any] = {}

    @property
    def observed(self) -> Observed:
        """What was seen so far."""
        self._observed.usage = self._usage()
        return self._observed

    @property
    def done(self) -> bool:
        """Whether the stream's last event has been seen."""
        return self._saw_done or self._observed.error is not None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the events that `data` completes."""
        self._buffer += data
        if b"\r" in self._buffer:
            self._buffer = self._buffer.replace(b"\r\n", b"\n")
        *events, self._buffer = self._buffer.split(b"\n\n")
        return b"".join(self._event(event) for event in events)

    def finish(self) -> bytes:
        """The client's last bytes. Raises EngineFailed when the engine's stream broke off."""
        rest = self._event(self._buffer) if self._buffer.strip() else b""
        self._buffer = b""
        if self._observed.error is not None or self._saw_done:
            return rest
        if not self._saw_finish:
            raise EngineFailed("The engine broke off in the middle of its answer.", code="engine_failed")
        return rest + self._done()

    def _event(self, event: bytes) -> bytes:
        if self._observed.error is not None or self._saw_done:
            return b""
        lines = event.split(b"\n")
        payload = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        if payload.strip() == b"[DONE]":
            return self._done()
        if not payload:
            return event + b"\n\n"  # comments and other fields are the engine's business
        try:
            chunk = JsonObject(payload)
        except JsonError:
            return event + b"\n\n"
        if "error" in chunk.values and not chunk.values.get("choices"):
            return self._error_event(chunk.values)
        return self._chunk(event, chunk)

    def _chunk(self, event: bytes, chunk: JsonObject) -> bytes:
        values = chunk.values
        choices = values.get("choices") or []
        self._last_chunk = values
        self._tally.see_chunk(values)
        self._observed.queue_seconds = _queue_seconds(values) or self._observed.queue_seconds
        replace: dict[str, Any] = {}
        remove: set[str] = set()
        if values.get("model") != self._plan.model:
            replace["model"] = self._plan.model
        if self._plan.strip_metrics and "metrics" in values:
            remove.add("metrics")
        if not choices and "usage" in values:
            if not self._plan.keep_usage:
                return b""
            self._sent_usage = True
        elif "usage" in values and not self._plan.keep_continuous_usage:
            remove.add("usage")
        if choices:
            changed = self._choices(choices)
            if changed is None:
                return b""
            if changed is not choices:
                replace["choices"] = changed
        if "usage" in values and "usage" not in remove and _invented_zero(self._tally.result(), self._saw_reasoning):
            replace["usage"] = _without_reasoning_tokens(values["usage"])
        if not replace and not remove:
            return event + b"\n\n"
        return b"data: " + chunk.edited(replace, remove) + b"\n\n"

    def _choices(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        """The choices with thinking split off; the same list if nothing changed; None if nothing is left to send."""
        split = [self._choice(choice) for choice in choices]
        for choice in split:
            self._note_tokens(choice)
        if all(new is old for new, old in zip(split, choices, strict=True)):
            return choices
        return split if any(_says_something(choice) for choice in split) else None

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        finished = choice.get("finish_reason") is not None
        self._saw_finish = self._saw_finish or finished
        delta = choice.get("delta")
        if self._plan.marks is None or not isinstance(delta, dict):
            return choice
        named = delta.get("reasoning_content")
        if named:
            rest_of_delta = {key: value for key, value in delta.items() if key != "reasoning_content"}
            delta = {**rest_of_delta, "reasoning": named}
            choice = {**choice, "delta": delta}
        splitter = self._splitter(choice.get("index", 0), delta)
        if splitter is None:
            return choice
        text = delta.get("content")
        parts = splitter.feed(text if isinstance(text, str) else "")
        if finished:
            for part, rest in splitter.flush().items():
                parts[part] = parts.get(part, "") + rest
        if parts.get("content", "") == (text or "") and "reasoning" not in parts:
            return choice
        rest_of_delta = {key: value for key, value in delta.items() if key != "content"}
        return {**choice, "delta": {**rest_of_delta, **parts}}

    def _splitter(self, index: int, delta: dict[str, Any]) -> ReasoningSplitter | None:
        """The splitter of a choice; None once the engine is seen to split by itself."""
        assert self._plan.marks is not None
        if delta.get("reasoning"):
            self._splitters[index] = None
        return self._splitters.setdefault(index, ReasoningSplitter(self._plan.marks))

    def _note_tokens(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            answered, thought = False, bool(choice.get("text"))
        else:
            answered = bool(delta.get("content") or delta.get("tool_calls"))
            thought = bool(delta.get("reasoning"))
            self._saw_reasoning = self._saw_reasoning or thought
        if not answered and not thought:
            return
        self._observed.last_token = self._clock()
        if self._observed.first_token is None:
            self._observed.first_token = self._observed.last_token
        if answered and self._observed.first_answer_token is None:
            self._observed.first_answer_token = self._observed.last_token

    def _done(self) -> bytes:
        self._saw_done = True
        return self._missing_usage_chunk() + b"data: [DONE]\n\n"

    def _missing_usage_chunk(self) -> bytes:
        """The usage chunk that the client asked for, where the engine put its usage elsewhere."""
        usage = self._usage()
        if not self._plan.keep_usage or self._sent_usage or usage is None:
            return b""
        self._sent_usage = True
        kept: dict[str, Any] = {
            key: self._last_chunk[key] for key in ("id", "object", "created") if key in self._last_chunk
        }
        document = {**kept, "model": self._plan.model, "choices": [], "usage": usage.document()}
        return b"data: " + orjson.dumps(document) + b"\n\n"

    def _error_event(self, values: dict[str, Any]) -> bytes:
        error = values["error"]
        if not isinstance(error, dict):
            error = {"message": str(error), "type": "server_error", "param": None, "code": "engine_failed"}
        self._observed.error = error
        return b"data: " + orjson.dumps({"error": error}) + b"\n\n"

    def _usage(self) -> Usage | None:
        usage = self._tally.result()
        if usage is not None and _invented_zero(usage, self._saw_reasoning):
            return usage.without_reasoning()
        return usage


def _split_choice(choice: Any, marks: Reasoning) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    return {**choice, "message": split_message(message, marks)}


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta")) or choice.get("finish_reason") is not None


def _has_reasoning(choices: Any, place: str) -> bool:
    if not isinstance(choices, list):
        return False
    return any(isinstance(choice, dict) and (choice.get(place) or {}).get("reasoning") for choice in choices)


def _invented_zero(usage: Usage | None, saw_reasoning: bool) -> bool:
    """Whether the engine reports 0 reasoning tokens although it reasoned.

    vLLM counts between the marks in the output; a template that puts the start mark into the prompt
    leaves it nothing to count from, and it reports 0.
    """
    return usage is not None and usage.reasoning == 0 and saw_reasoning


def _without_reasoning_tokens(usage: dict[str, Any]) -> dict[str, Any]:
    details = {k: v for k, v in usage["completion_tokens_details"].items() if k != "reasoning_tokens"}
    return {**usage, "completion_tokens_details": details}


def _queue_seconds(document: dict[str, Any]) -> float | None:
    """Seconds in the engine's queue (vLLM, `--enable-per-request-metrics`)."""
    metrics = document.get("metrics")
    value = metrics.get("queue_time_ms") if isinstance(metrics, dict) else None
    return value / 1000 if isinstance(value, int | float) else None
