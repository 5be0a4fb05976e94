"""Answers of the Messages API: blocks of thinking and text; usage at the start (prompt) and at the end."""

from collections.abc import Iterator
from typing import Any

from benchmarks.soak.engine.job import DONE, Job, UsageNames, named_event

KINDS = ("thinking", "text")


class MessagesJob(Job):
    """`/v1/messages`. As vLLM does, it sends `[DONE]` after `message_stop`."""

    names = UsageNames("input_tokens", "output_tokens", "output_tokens_details", "thinking_tokens")
    done = named_event("message_stop", {}) + DONE

    def document(self) -> dict[str, Any]:
        """See Job."""
        texts = zip(KINDS, self.texts(), strict=True)
        blocks: Any = [{"type": kind, kind: text} for kind, text in texts if text]
        message = {**self._message("end_turn"), "content": blocks, "usage": self._usage(self.tokens)}
        return message | ({"content": 5, "usage": [1]} if self.odd else {})

    def events(self) -> Iterator[bytes]:
        """See Job."""
        message: Any = {**self._message(None), "content": 7 if self.odd else [], "usage": self._usage(0)}
        yield named_event("message_start", {"message": message})
        for index, kind in enumerate(KINDS if self.thoughts else ("text",)):
            yield from self._block_events(index, kind)
        usage = {} if self.fault == "usage_absent" else {"usage": self._usage(self.tokens)}
        for _ in range(2 if self.fault == "usage_twice" else 1):
            yield named_event("message_delta", {"delta": {"stop_reason": "end_turn"}, **usage})

    def error_event(self) -> bytes:
        """See Job."""
        return named_event("error", {"error": {"type": "internal_error", "message": "out of memory"}})

    def bad_event(self) -> bytes:
        """See Job."""
        return b'event: ping\ndata: {"type": "ping", "says": "\xff\xfe"}\n\n'

    def _block_events(self, index: int, kind: str) -> Iterator[bytes]:
        numbers = range(self.thoughts) if kind == "thinking" else range(self.thoughts, self.tokens)
        yield named_event("content_block_start", {"index": index, "content_block": {"type": kind, kind: ""}})
        for number in numbers:
            delta: Any = {"type": f"{kind}_delta", kind: self.piece(number)}
            if self.odd and number % 3 == 1:
                delta = 5
            yield named_event("content_block_delta", {"index": index, "delta": delta, **self.padding(number)})
        yield named_event("content_block_stop", {"index": index})

    def _usage(self, completion: int) -> Any:
        usage = self.usage(completion)
        if isinstance(usage, dict):  # the API has no sum
            del usage["total_tokens"]
        return usage

    def _message(self, stop: str | None) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model, "stop_reason": stop}
