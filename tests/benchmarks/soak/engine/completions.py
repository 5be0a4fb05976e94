"""Answers of chat completions and completions; running usage in every chunk where asked for, as vLLM gives it."""

from collections.abc import Iterator
from typing import Any

import orjson

from benchmarks.soak.engine.job import DONE, Job, UsageNames
from benchmarks.soak.plan import pieces


class _Chunked(Job):
    names = UsageNames("prompt_tokens", "completion_tokens", "completion_tokens_details", "reasoning_tokens")
    kind: str
    done = DONE

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        options = body.get("stream_options") or {}
        self.usage_at_end = options.get("include_usage") is True
        self.usage_always = options.get("continuous_usage_stats") is True

    def document(self) -> dict[str, Any]:
        """See Job."""
        document = {**self._base(), "choices": self.choices(), "usage": self.usage(self.tokens)}
        if self.odd:
            document |= {"choices": [5, None, {"message": 7}], "usage": {"completion_tokens_details": 3}}
        return document

    def events(self) -> Iterator[bytes]:
        """See Job."""
        for number in range(self.tokens):
            yield self._event(self.delta(number), number + 1)
        for number in range(self.prompts):
            yield self._event({**self.last(), "index": number}, self.tokens)
        if self.usage_at_end and self.fault != "usage_absent":
            for _ in range(2 if self.fault == "usage_twice" else 1):
                yield self._data({"choices": [], "usage": self.usage(self.tokens)})

    def error_event(self) -> bytes:
        """See Job."""
        return b'data: {"error": {"message": "out of memory", "code": 500}}\n\n' + DONE

    def bad_event(self) -> bytes:
        """See Job."""
        return b'data: {"id": "\xff\xfe", "choices": []}\n\n'

    def choices(self) -> list[dict[str, Any]]:
        """The choices of a whole answer."""
        raise NotImplementedError

    def delta(self, number: int) -> dict[str, Any]:
        """The choice of one token's chunk."""
        raise NotImplementedError

    def last(self) -> dict[str, Any]:
        """The choice of the last chunk that has one."""
        raise NotImplementedError

    def _event(self, choice: dict[str, Any], completion: int) -> bytes:
        document: dict[str, Any] = {"choices": [choice], **self.padding(completion - 1)}
        if self.usage_always and self.fault != "usage_absent":
            index = choice["index"]
            document["usage"] = self.usage(self._own(index, completion), self._own(index, self.prompt))
        if self.odd and completion % 3 == 1:
            document |= {"choices": completion, "usage": [1]}
        return self._data(document)

    def _own(self, index: int, completion: int) -> int:
        """Of so many tokens, those of one choice, or its prompt: running usage is a choice's own, as vLLM has it."""
        return len(range(index, completion, self.prompts))

    def _base(self) -> dict[str, Any]:
        return {"id": self.id, "object": self.kind, "created": 1, "model": self.model}

    def _data(self, document: dict[str, Any]) -> bytes:
        return b"data: " + orjson.dumps({**self._base(), **document}) + b"\n\n"


class ChatJob(_Chunked):
    """`/v1/chat/completions`."""

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What the API calls the object."""
        return "chat.completion.chunk" if self.stream else "chat.completion"

    def choices(self) -> list[dict[str, Any]]:
        """See _Chunked."""
        thought, text = self.texts()
        message = {"role": "assistant", "content": text, "reasoning": thought}
        return [{"index": 0, "message": message, "finish_reason": "stop"}]

    def delta(self, number: int) -> dict[str, Any]:
        """See _Chunked."""
        part = "reasoning" if number < self.thoughts else "content"
        return {"index": 0, "delta": {part: self.piece(number)}, "finish_reason": None}

    def last(self) -> dict[str, Any]:
        """See _Chunked."""
        return {"index": 0, "delta": {}, "finish_reason": "stop"}


class TextJob(_Chunked):
    """`/v1/completions`."""

    kind = "text_completion"
    thinks = False

    def choices(self) -> list[dict[str, Any]]:
        """See _Chunked. One a prompt."""
        said = pieces(self.id, self.tokens)
        texts = ("".join(said[index :: self.prompts]) for index in range(self.prompts))
        return [{"index": index, "text": text, "finish_reason": "stop"} for index, text in enumerate(texts)]

    def delta(self, number: int) -> dict[str, Any]:
        """See _Chunked."""
        return {"index": number % self.prompts, "text": self.piece(number), "finish_reason": None}

    def last(self) -> dict[str, Any]:
        """See _Chunked."""
        return {"index": 0, "text": "", "finish_reason": "stop"}
