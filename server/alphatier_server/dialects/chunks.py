"""Chat and text completions, from the engine's bytes to the client's: what must change, nothing else. No I/O.

What changes: `model` becomes the public name; usage that only the gateway asked for is taken out; the
thinking is split from the answer where the engine did not; a reasoning count that the engine cannot
know is taken out. All other bytes pass unchanged. On the way the relay notes usage and the moments of
the first token, the first answer token and the last one.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from alphatier_server.dialects.completion import (
    RelayPlan,
    invented_zero,
    queue_seconds_of,
    without_reasoning_tokens,
)
from alphatier_server.dialects.dialect import Observed
from alphatier_server.dialects.engine_errors import engine_message
from alphatier_server.dialects.events import END, EventSplitter, read_event
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.dialects.reasoning import ReasoningSplitter, renamed, with_reasoning_content, without
from alphatier_server.dialects.template import Match, with_model
from alphatier_server.dialects.templates import Templates
from alphatier_server.dialects.usage import Usage, UsageTally
from alphatier_server.errors import EngineFailed

_MODEL_ALONE, _USAGE_ALONE = frozenset({"model"}), frozenset({"usage"})


class ChunkRelay:
    """Server-sent events from the engine in, server-sent events for the client out.

    See `dialect.Relay`. Most chunks match the stream's `Template` and are not parsed.
    """

    def __init__(self, plan: RelayPlan, clock: Callable[[], float] = time.perf_counter) -> None:
        self._plan = plan
        self._clock = clock
        self._events = EventSplitter()
        self._templates = Templates(learns=plan.learns, doubles=plan.reasoning_content)
        self._tally = UsageTally(plan.choices)
        self._observed = Observed()
        self._splitters: dict[int, ReasoningSplitter | None] = {}
        self._saw_reasoning = False
        self._saw_done = False
        self.done = False
        """Whether the stream's last event has been seen."""
        self._saw_finish = False
        self._sent_usage = False
        self._first_chunk: dict[str, Any] = {}

    @property
    def observed(self) -> Observed:
        """What was seen so far."""
        self._observed.usage = self._usage()
        return self._observed

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the events that `data` completes. Raises EngineFailed."""
        if (
            self._events.empty
            and data.find(END) == len(data) - 2
            and (match := self._templates.match(data)) is not None
        ):
            self._note_match(match)  # the usual case: one piece, one event, nothing new but its text
            return match.out
        events = self._events.feed(data)
        if len(events) == 1:
            return self._event(events[0])
        return b"".join(map(self._event, events)) if events else b""

    def finish(self) -> bytes:
        """The client's last bytes. Raises EngineFailed when the engine's stream broke off."""
        left = self._events.rest().strip()
        rest = self._event(left) if left else b""
        if self._observed.error is not None or self._saw_done:
            return rest
        if not self._saw_finish:
            raise EngineFailed("The engine broke off in the middle of its answer.", code="engine_failed")
        return rest + self._done()

    def _event(self, event: bytes) -> bytes:
        match = self._templates.match(event + END)
        if match is None:
            return self._read(event)
        self._note_match(match)
        return match.out

    def _note_match(self, match: Match) -> None:
        kind, says, _, _ = match
        if not says:
            return
        seen = self._observed
        seen.last_token = now = self._clock()
        if seen.first_token is None:
            seen.first_token = now
        if kind == b"content":
            if seen.first_answer_token is None:
                seen.first_answer_token = now
        elif kind == b"reasoning":
            self._saw_reasoning = True

    def _read(self, event: bytes) -> bytes:
        if self._observed.error is not None or self._saw_done:
            return b""
        _, payload = read_event(event)
        if payload.strip() == b"[DONE]":
            return self._done()
        if not payload:
            return event + b"\n\n"  # comments and other fields are the engine's business
        try:
            chunk = JsonObject(payload)
        except JsonError:
            return event + b"\n\n"
        if chunk.values.get("error") and not chunk.values.get("choices"):
            return self._error_event(event, chunk)
        self._tally_bytes()
        try:
            out = self._chunk(event, chunk)
        except JsonError:
            return event + b"\n\n"
        if self._may_learn(chunk.values):
            self._templates.may_learn(event, out, chunk.values["choices"])
        return out

    def _may_learn(self, values: dict[str, Any]) -> bool:
        """Whether a chunk like this one says all there is to know by its text and its usage."""
        choices = values.get("choices")
        if not self._templates.learns or not isinstance(choices, list) or len(choices) != 1 or "metrics" in values:
            return False
        choice = choices[0]
        if not isinstance(choice, dict) or choice.get("finish_reason") is not None or choice.get("logprobs"):
            return False
        if self._plan.marks is not None:
            splitter = self._splitters.get(_index(choice), None)
            if _index(choice) not in self._splitters or (splitter is not None and not splitter.passes):
                return False
        delta = choice.get("delta", {"text": choice.get("text")})
        return isinstance(delta, dict) and len(delta) == 1 and set(delta) <= {"content", "reasoning", "text"}

    def _tally_bytes(self) -> None:
        """Take note of the usage in chunks that went past the parser."""
        for choices, usage in self._templates.usages():
            self._tally.see_chunk({"choices": choices, "usage": usage})

    def _chunk(self, event: bytes, chunk: JsonObject) -> bytes:
        values = chunk.values
        choices = values.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            return event + b"\n\n"
        if choices and not self._first_chunk:  # of the chunks after it some are never read
            self._first_chunk = values
        self._tally.see_chunk(values)
        self._observed.queue_seconds = queue_seconds_of(values) or self._observed.queue_seconds
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
        if "usage" in values and "usage" not in remove and invented_zero(self._tally.result(), self._saw_reasoning):
            replace["usage"] = without_reasoning_tokens(values["usage"])
        if not replace and not remove:
            return event + b"\n\n"
        out = None
        if replace.keys() <= _MODEL_ALONE and remove <= _USAGE_ALONE:
            out = with_model(chunk.raw, self._plan.model, without_usage=bool(remove))
        if out is None:
            out = chunk.edited(replace, remove)
        # A raw newline in JSON is white space between tokens; in an event it would end the line.
        return b"data: " + out.replace(b"\n", b" ") + END

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
        if not isinstance(delta, dict):
            return choice
        split: dict[str, Any] = delta if self._plan.marks is None else self._split(_index(choice), delta, finished)
        if self._plan.reasoning_content:
            split = with_reasoning_content(split)
        return choice if split is delta else {**choice, "delta": split}

    def _split(self, index: int, delta: dict[str, Any], finished: bool) -> dict[str, Any]:
        """The delta with thinking apart; the same one where that is so already."""
        delta = renamed(delta)
        splitter = self._splitter(index, delta)
        if splitter is None:
            return delta
        text = delta.get("content")
        parts = splitter.feed(text if isinstance(text, str) else "")
        if finished:
            for part, rest in splitter.flush().items():
                parts[part] = parts.get(part, "") + rest
        if parts.get("content", "") == (text or "") and "reasoning" not in parts:
            return delta
        return without(delta, "content") | dict(parts)

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
        self._saw_done = self.done = True
        self._templates.forget()
        return self._missing_usage_chunk() + b"data: [DONE]\n\n"

    def _missing_usage_chunk(self) -> bytes:
        """The usage chunk that the client asked for, where the engine put its usage elsewhere."""
        usage = self._usage()
        if not self._plan.keep_usage or self._sent_usage or usage is None:
            return b""
        self._sent_usage = True
        kept: dict[str, Any] = {
            key: self._first_chunk[key]
            for key in ("id", "object", "created")
            if isinstance(self._first_chunk.get(key), str | int)
        }
        document = {**kept, "model": self._plan.model, "choices": [], "usage": usage.document()}
        return b"data: " + orjson.dumps(document) + b"\n\n"

    def _error_event(self, event: bytes, chunk: JsonObject) -> bytes:
        """The engine's last words: as they came where clients understand them."""
        self._observed.error = error = engine_message(chunk.raw)
        self.done = True
        self._templates.forget()
        said = chunk.values["error"]
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            return event + END
        return b"data: " + orjson.dumps({"error": error}) + END

    def _usage(self) -> Usage | None:
        self._tally_bytes()
        usage = self._tally.result()
        if usage is not None and invented_zero(usage, self._saw_reasoning):
            return usage.without_reasoning()
        return usage


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    return index if isinstance(index, int) else 0


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta")) or choice.get("finish_reason") is not None
