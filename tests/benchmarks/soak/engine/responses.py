"""Answers of the Responses API: items of reasoning and message, numbered events, usage at the end only."""

from collections.abc import Iterator
from typing import Any

from benchmarks.soak.engine.job import Job, UsageNames, named_event

KINDS = ("reasoning", "message")
PARTS = {"reasoning": "reasoning_text", "message": "output_text"}


class ResponsesJob(Job):
    """`/v1/responses`. The last event is `response.completed`; nothing follows it (`done` is empty)."""

    names = UsageNames("input_tokens", "output_tokens", "output_tokens_details", "reasoning_tokens")

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self._sequence = 0

    def document(self) -> dict[str, Any]:
        """See Job."""
        texts = dict(zip(KINDS, self.texts(), strict=True))
        items = [self._item(kind, text) for kind, text in texts.items() if text]
        document = {**self._response("completed", items), "usage": self.usage(self.tokens)}
        if self.odd:
            document |= {"output": [5, None, {"type": "message", "content": 7}], "usage": [1]}
        return document

    def events(self) -> Iterator[bytes]:
        """See Job."""
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        kinds = KINDS if self.thoughts else ("message",)
        for index, kind in enumerate(kinds):
            yield from self._item_events(index, kind)
        if self.fault == "usage_twice":
            yield self._event("response.in_progress", response=self.document())
        response = self.document()
        if self.fault == "usage_absent":
            del response["usage"]
        yield self._event("response.completed", response=response)

    def error_event(self) -> bytes:
        """See Job. Both ways in which the API tells of a failure."""
        error = {"code": "server_error", "message": "out of memory"}
        if self.tokens % 2:
            return self._event("error", **error, param=None)
        response = {**self._response("failed", []), "error": error}
        return self._event("response.failed", response=response)

    def bad_event(self) -> bytes:
        """See Job."""
        return b'event: response.in_progress\ndata: {"type": "response.in_progress", "response": "\xff\xfe"}\n\n'

    def _item_events(self, index: int, kind: str) -> Iterator[bytes]:
        part = PARTS[kind]
        place: dict[str, Any] = {"item_id": f"{kind}-{self.id}", "output_index": index, "content_index": 0}
        numbers = range(self.thoughts) if kind == "reasoning" else range(self.thoughts, self.tokens)
        text = "".join(map(self.piece, numbers))
        yield self._event("response.output_item.added", output_index=index, item=self._item(kind, ""))
        for number in numbers:
            delta: Any = number if self.odd and number % 3 == 1 else self.piece(number)
            yield self._event(f"response.{part}.delta", **place, delta=delta, **self.padding(number))
        yield self._event(f"response.{part}.done", **place, text=text)
        yield self._event("response.output_item.done", output_index=index, item=self._item(kind, text))

    def _item(self, kind: str, text: str) -> dict[str, Any]:
        content = [{"type": PARTS[kind], "text": text}]
        return {"id": f"{kind}-{self.id}", "type": kind, "status": "completed", "content": content}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        response = {"id": self.id, "object": "response", "created_at": 1, "model": self.model}
        return {**response, "status": status, "output": output, "usage": None}

    def _event(self, name: str, **members: Any) -> bytes:
        event = named_event(name, {**members, "sequence_number": self._sequence})
        self._sequence += 1
        return event
