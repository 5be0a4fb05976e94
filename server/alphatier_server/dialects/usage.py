"""Tokens as engines report them (OpenAI API reference, `usage`); what is not reported stays unknown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from alphatier_server.dialects.json_object import object_or_empty, without

CHAT = ("prompt_tokens", "completion_tokens", "completion_tokens_details")
RESPONSES = ("input_tokens", "output_tokens", "output_tokens_details")
"""What a `usage` object's members are called."""
MOST_TOKENS = 2**53
"""More than any engine counts. Beyond it JSON readers lose digits, and sums leave 64 bits."""


class Usage(NamedTuple):
    """Tokens of one request. `reasoning` is the part of `completion` spent thinking; None if it cannot be known."""

    prompt: int
    completion: int
    reasoning: int | None = None

    @classmethod
    def of(cls, prompt: Any, completion: Any, reasoning: Any = None) -> "Usage | None":
        """The figures of an engine; None where it did not tell both sides."""
        if (prompt := token_count(prompt)) is None or (completion := token_count(completion)) is None:
            return None
        known = token_count(reasoning)
        return cls(prompt, completion, known if known is None or known <= completion else None)

    @classmethod
    def parse(cls, document: Any, names: tuple[str, str, str] = CHAT) -> "Usage | None":
        """Read a `usage` object; None when it is absent or is no usage."""
        prompt, completion, details = map(object_or_empty(document).get, names)
        return cls.of(prompt, completion, object_or_empty(details).get("reasoning_tokens"))

    def document(self) -> dict[str, Any]:
        """The tokens as OpenAI's `usage` object; the split is left out when it is unknown."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        if self.reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage


def token_count(value: Any) -> int | None:
    """A number of tokens; None for anything that is none."""
    return value if type(value) is int and 0 <= value < MOST_TOKENS else None


def queue_seconds_of(document: Mapping[str, Any]) -> float | None:
    """Seconds in the engine's queue (vLLM, `--enable-per-request-metrics`)."""
    value = object_or_empty(document.get("metrics")).get("queue_time_ms")
    return value / 1000 if isinstance(value, int | float) else None


def without_reasoning_tokens(usage: Any, details: str = CHAT[2]) -> Any:
    """A `usage` object without its reasoning tokens, for an engine that reports 0 of them although it reasoned.

    vLLM counts between the marks in the output; a template that puts the start mark into the prompt
    leaves it nothing to count from, and it reports 0.
    """
    if not isinstance(object_or_empty(usage).get(details), dict):
        return usage
    return {**usage, details: without(usage[details], "reasoning_tokens")}


class UsageTally:
    """Collects the usage of one response, which may come once at the end or again with every chunk.

    Chunks carry the running count of their own choice, so choices are added up and later counts
    replace earlier ones; a chunk without choices carries the total (vLLM, `continuous_usage_stats`).
    `choices` is how many each prompt of a batch has, one prompt after the other; None where there is one prompt.
    """

    def __init__(self, choices: int | None = None) -> None:
        self._choices = choices
        self._by_choice: dict[int, Usage] = {}
        self._total: Usage | None = None

    def see_chunk(self, document: dict[str, Any]) -> None:
        """Take note of one chunk of a stream."""
        usage = Usage.parse(document.get("usage"))
        if usage is None:
            return
        choices = document.get("choices")
        if not choices:
            self._total = usage
        for choice in choices or ():
            self._by_choice[choice_index(choice)] = usage

    def result(self) -> Usage | None:
        """What the engine has told so far; None if it told nothing."""
        if self._total is not None or not self._by_choice:
            return self._total
        parts = self._by_choice.values()
        known = [part.reasoning for part in parts if part.reasoning is not None]
        return Usage(
            prompt=self._prompts(),
            completion=sum(part.completion for part in parts),
            reasoning=sum(known) if len(known) == len(parts) else None,
        )

    def _prompts(self) -> int:
        """The tokens of all prompts whose choices were seen."""
        if self._choices is None:
            return next(iter(self._by_choice.values())).prompt
        return sum({index // self._choices: usage.prompt for index, usage in self._by_choice.items()}.values())


def choice_index(choice: Any) -> int:
    """The number of a choice; 0 where it has none."""
    index = choice.get("index", 0) if isinstance(choice, dict) else 0
    return index if isinstance(index, int) else 0
