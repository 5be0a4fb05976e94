"""Splits `<think> … </think>` from the answer where the engine did not.

Same result as vLLM's reasoning parsers (docs.vllm.ai, "Reasoning Outputs"): the marks vanish, the thinking goes to
`reasoning`, the rest to `content`; thinking without an end leaves `content` null.
"""

from typing import Any, Literal

from alphatier_models import Reasoning
from alphatier_server.dialects.json_object import without

Part = Literal["reasoning", "content"]


class ReasoningSplitter:
    """Splits the text of one choice, given piece by piece.

    A response that does not begin with the start mark has no reasoning; marks later in the text are
    part of the answer. Pieces may end in the middle of a mark.
    """

    def __init__(self, marks: Reasoning) -> None:
        self._marks = marks
        self._state: Literal["undecided", "reasoning", "content"] = "undecided"
        self._held = ""

    @property
    def passes(self) -> bool:
        """Whether all that comes is the answer, and passes unchanged."""
        return self._state == "content"

    def feed(self, text: str, *, last: bool = False) -> dict[Part, str]:
        """The parts that are certain after this piece, the last one or not; a part that is empty is left out."""
        self._held += text
        if self._state == "undecided":
            self._decide()
        thinking = answer = ""
        if self._state == "reasoning":
            thinking, found, rest = self._held.partition(self._marks.end)
            if found:
                self._state, self._held = "content", rest
            else:
                certain = len(thinking) - (0 if last else _overlap(thinking, self._marks.end))
                thinking, self._held = thinking[:certain], thinking[certain:]
        if self._state == "content" or last:
            answer, self._held = self._held, ""
        parts: dict[Part, str] = {"reasoning": thinking, "content": answer}
        return {part: said for part, said in parts.items() if said}

    def _decide(self) -> None:
        text = self._held.lstrip()
        if text.startswith(self._marks.start):
            self._state, self._held = "reasoning", text.removeprefix(self._marks.start)
        elif not self._marks.start.startswith(text):
            self._state = "content"


def split_message(message: dict[str, Any], marks: Reasoning) -> dict[str, Any]:
    """The message of a whole response with its thinking apart; the same one if the engine had split it."""
    if message.get("reasoning"):
        return message
    if message.get("reasoning_content"):
        return renamed(message)
    content = message.get("content")
    if not isinstance(content, str) or not content.lstrip().startswith(marks.start):
        return message
    parts = ReasoningSplitter(marks).feed(content, last=True)
    rest = without(message, "reasoning_content")
    return {**rest, "content": parts.get("content"), "reasoning": parts.get("reasoning", "")}


def renamed(part: dict[str, Any]) -> dict[str, Any]:
    """A message or delta with its thinking as `reasoning`, which other engines call `reasoning_content`."""
    named = part.get("reasoning_content")
    return {**without(part, "reasoning_content"), "reasoning": named} if named else part


def with_reasoning_content(part: dict[str, Any]) -> dict[str, Any]:
    """A message or delta with its thinking under both names; the same one without thinking."""
    thinking = part.get("reasoning")
    if thinking is None or "reasoning_content" in part:
        return part
    return {**part, "reasoning_content": thinking}


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    longest = min(len(text), len(mark) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(mark[:size])), 0)
