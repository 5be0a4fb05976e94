"""Chat and text completions, from the engine's bytes to the client's: what must change, nothing else. No I/O.

What changes: `model` becomes the public name; usage that only the gateway asked for is taken out; the
thinking is split from the answer where the engine did not; a reasoning count that the engine cannot
know is taken out. All other bytes pass unchanged. On the way the relay notes usage and the moments of
the first token, the first answer token and the last one.
"""

from operator import is_not
from typing import Any

import orjson

from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.engine_errors import engine_message
from alphatier_server.dialects.events import END, StreamRelay, read_event
from alphatier_server.dialects.json_object import JsonError, JsonObject, without
from alphatier_server.dialects.reasoning import ReasoningSplitter, renamed, with_reasoning_content
from alphatier_server.dialects.template import Templates, with_model
from alphatier_server.dialects.usage import (
    Usage,
    UsageTally,
    choice_index,
    queue_seconds_of,
    without_reasoning_tokens,
)

DONE = b"data: [DONE]\n\n"
_MODEL_ALONE, _USAGE_ALONE = frozenset({"model"}), frozenset({"usage"})


class ChunkRelay(StreamRelay):
    """Server-sent events from the engine in, server-sent events for the client out.

    Most chunks match the stream's `Template` and are not parsed; with `learns` off all of them are. The client
    gets usage at the end where it asked for it (`keep_usage`), and in every chunk (`keep_continuous_usage`).
    `choices` is how many answers each prompt of a batch gets; None where there is one prompt.
    """

    def __init__(
        self,
        target: Target,
        *,
        keep_usage: bool = False,
        keep_continuous_usage: bool = False,
        choices: int | None = None,
        learns: bool = True,
    ) -> None:
        super().__init__()
        self._target = target
        self._keep_usage = keep_usage
        self._keep_continuous_usage = keep_continuous_usage
        self._templates = Templates(learns=learns, doubles=target.reasoning_content)
        self._tally = UsageTally(choices)
        self._splitters: dict[int, ReasoningSplitter | None] = {}
        """By choice; None once the engine is seen to split by itself."""
        self._saw_reasoning = self._saw_finish = self._sent_usage = False
        self._first_chunk: dict[str, Any] = {}

    def usage(self) -> Usage | None:
        self._tally_matched()
        usage = self._tally.result()
        return usage._replace(reasoning=None) if usage is not None and self._invented_zero(usage) else usage

    def event(self, event: bytes) -> bytes:
        match = self._templates.match(event)
        if match is None:
            return self._read(event)
        kind, says, out = match
        if says:
            self.note_token(kind == b"content")
            if kind == b"reasoning":
                self._saw_reasoning = True
        return out

    def complete(self) -> bytes:
        return self._done() if self._saw_finish else super().complete()

    def _read(self, event: bytes) -> bytes:
        if self.done:
            return b""
        _, payload = read_event(event)
        if payload.strip() == b"[DONE]":
            return self._done()
        try:  # comments and other fields are the engine's business
            return self._chunk(event, JsonObject(payload)) if payload else event
        except JsonError:
            return event

    def _chunk(self, event: bytes, chunk: JsonObject) -> bytes:
        values = chunk.values
        choices = values.get("choices") or []
        if values.get("error") and not choices:
            return self._error_event(event, chunk)
        self._tally_matched()
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            return event
        if choices and not self._first_chunk:  # of the chunks after it some are never read
            self._first_chunk = values
        self._tally.see_chunk(values)
        if "metrics" in values:
            self._seen.queue_seconds = queue_seconds_of(values) or self._seen.queue_seconds
        out = self._changed(event, chunk, choices)
        if self._templates.learns and self._may_learn(values, choices):
            self._templates.may_learn(event, out, choices)
        return out

    def _changed(self, event: bytes, chunk: JsonObject, choices: list[dict[str, Any]]) -> bytes:
        """The chunk for the client; empty where nothing is left to send."""
        target, values = self._target, chunk.values
        replace: dict[str, Any] = {} if values.get("model") == target.model else {"model": target.model}
        remove: set[str] = {"metrics"} if target.adds_metrics and "metrics" in values else set()
        split = [self._choice(choice) for choice in choices]
        if any(map(is_not, split, choices)):
            if not any(choice.get("delta") or choice.get("finish_reason") is not None for choice in split):
                return b""
            replace["choices"] = split
        if "usage" in values:
            if not choices and not self._keep_usage:
                return b""
            if choices and not self._keep_continuous_usage:
                remove.add("usage")
            elif self._invented_zero(self._tally.result()):
                replace["usage"] = without_reasoning_tokens(values["usage"])
            self._sent_usage = self._sent_usage or not choices
        if not replace and not remove:
            return event
        few = replace.keys() <= _MODEL_ALONE and remove <= _USAGE_ALONE
        out = with_model(chunk.raw, target.model, without_usage=bool(remove)) if few else None
        if out is None:
            out = chunk.edited(replace, remove)
        # A raw newline in JSON is white space between tokens; in an event it would end the line.
        return b"data: " + out.replace(b"\n", b" ") + END

    def _may_learn(self, values: dict[str, Any], choices: list[dict[str, Any]]) -> bool:
        """Whether a chunk like this one says all there is to know by its text and its usage."""
        if len(choices) != 1 or "metrics" in values:
            return False
        choice = choices[0]
        if choice.get("finish_reason") is not None or choice.get("logprobs"):
            return False
        if self._target.reasoning is not None and "delta" in choice:
            index = choice_index(choice)
            splitter = self._splitters.get(index)
            if index not in self._splitters or (splitter is not None and not splitter.passes):
                return False
        delta = choice.get("delta", {"text": choice.get("text")})
        return isinstance(delta, dict) and len(delta) == 1 and delta.keys() <= {"content", "reasoning", "text"}

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        """The choice with thinking split off, the same one if nothing changed; its token is noted."""
        finished = choice.get("finish_reason") is not None
        self._saw_finish = self._saw_finish or finished
        self._seen.cut_off = self._seen.cut_off or choice.get("finish_reason") == "length"
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            if choice.get("text"):
                self.note_token(False)
            return choice
        split = delta if self._target.reasoning is None else self._split(choice_index(choice), delta, finished)
        if self._target.reasoning_content:
            split = with_reasoning_content(split)
        answered, thought = bool(split.get("content") or split.get("tool_calls")), bool(split.get("reasoning"))
        self._saw_reasoning = self._saw_reasoning or thought
        if answered or thought:
            self.note_token(answered)
        return choice if split is delta else {**choice, "delta": split}

    def _split(self, index: int, delta: dict[str, Any], finished: bool) -> dict[str, Any]:
        """The delta with thinking apart; the same one where that is so already."""
        assert self._target.reasoning is not None
        delta = renamed(delta)
        if delta.get("reasoning"):
            self._splitters[index] = None
        splitter = self._splitters.setdefault(index, ReasoningSplitter(self._target.reasoning))
        if splitter is None:
            return delta
        said = delta.get("content")
        text = said if isinstance(said, str) else ""
        parts = splitter.feed(text, last=finished)
        if parts.get("content", "") == text and "reasoning" not in parts:
            return delta
        return without(delta, "content") | dict(parts)

    def _tally_matched(self) -> None:
        """Take note of the usage in chunks that went past the parser."""
        for choices, usage in self._templates.usages():
            self._tally.see_chunk({"choices": choices, "usage": usage})

    def _invented_zero(self, usage: Usage | None) -> bool:
        """Whether the engine reports 0 reasoning tokens although it reasoned (see `without_reasoning_tokens`)."""
        return usage is not None and usage.reasoning == 0 and self._saw_reasoning

    def _done(self) -> bytes:
        """The last event; before it the usage chunk that the client asked for, where the engine sent none."""
        self.done = True
        self._templates.forget()
        usage = self.usage()
        if not self._keep_usage or self._sent_usage or usage is None:
            return DONE
        kept = {key: self._first_chunk.get(key) for key in ("id", "object", "created")}
        document: dict[str, Any] = {key: value for key, value in kept.items() if isinstance(value, str | int)}
        document |= {"model": self._target.model, "choices": [], "usage": usage.document()}
        return b"data: " + orjson.dumps(document) + END + DONE

    def _error_event(self, event: bytes, chunk: JsonObject) -> bytes:
        """The engine's last words: as they came where clients understand them."""
        self._seen.error = error = engine_message(chunk.raw)
        self.done = True
        self._templates.forget()
        said = chunk.values["error"]
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            return event
        return b"data: " + orjson.dumps({"error": error}) + END
