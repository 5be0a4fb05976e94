"""One request as the engine understood it, and what the answers of all APIs have in common.

A sound answer says the request's pieces (`plan.piece`), the first half of them as thinking. Faults that lie
about usage, answer oddly or at great length are told here, all others change how the bytes are sent (`faults`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from benchmarks.soak.plan import piece

HUGE = 1024 * 1024
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class UsageNames:
    """How an API calls the members of its `usage`."""

    prompt: str
    completion: str
    details: str
    reasoning: str


class Job(ABC):
    """One request. `body` is what the gateway sent; `body["soak"]` holds the client's orders."""

    names: ClassVar[UsageNames]
    thinks: ClassVar[bool] = True
    """Whether the API tells thinking from the answer."""
    done: bytes = b""
    """What an engine sends after the last of `events`."""
    junk: ClassVar[bytes] = b'data: {"id": "after the end"}\n\n'
    """An event that nobody may get after the end."""

    def __init__(self, body: dict[str, Any]) -> None:
        orders = body.get("soak", {})
        self.id = str(orders.get("id", "none"))
        self.fault = str(orders.get("fault", "none"))
        self.tokens = int(orders.get("tokens", 4))
        self.prompt = int(orders.get("prompt", 5))
        self.model = str(body.get("model"))
        self.stream = body.get("stream") is True
        prompt = body.get("prompt")
        self.prompts = len(prompt) if isinstance(prompt, list) else 1

    @property
    def odd(self) -> bool:
        """Whether members shall have types that no client expects."""
        return self.fault == "odd_answer"

    @property
    def thoughts(self) -> int:
        """How many of the pieces are thinking."""
        return self.tokens // 2 if self.thinks else 0

    def piece(self, number: int) -> str:
        """One token's text."""
        return piece(self.id, number)

    def texts(self) -> tuple[str, str]:
        """The whole thinking and the whole answer."""
        pieces = [self.piece(number) for number in range(self.tokens)]
        return "".join(pieces[: self.thoughts]), "".join(pieces[self.thoughts :])

    def usage(self, completion: int, prompt: int | None = None) -> Any:
        """Usage after so many tokens, of all prompts or of one with so many, or what this engine says instead."""
        names = self.names
        prompt = self.prompt if prompt is None else prompt
        true: dict[str, Any] = {names.prompt: prompt, names.completion: completion}
        true["total_tokens"] = prompt + completion
        if self.thinks:
            true[names.details] = {names.reasoning: min(completion, self.thoughts)}
        lies: dict[str, Any] = {
            "usage_absent": None,
            "usage_negative": {**true, names.completion: -completion},
            "usage_strings": {**true, names.completion: str(completion)},
            "usage_huge": {**true, names.completion: 2**63},
            "usage_float": {**true, names.completion: completion + 0.5},
            "usage_list": [true],
            "usage_reasoning": {**true, names.details: {names.reasoning: completion + 1000}},
        }
        return lies.get(self.fault, true)

    def whole(self) -> bytes:
        """The answer that is not streamed."""
        document = self.document()
        if self.fault == "usage_absent":
            document.pop("usage", None)
        if self.fault == "huge":
            document["padding"] = "p" * HUGE
        return orjson.dumps(document)

    def padding(self, number: int) -> dict[str, str]:
        """More members for the event of this token, where the answer shall be of great length."""
        return {"padding": "p" * HUGE} if self.fault == "huge" and number == self.tokens // 2 else {}

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The whole answer as an object."""

    @abstractmethod
    def events(self) -> Iterator[bytes]:
        """The events of the streamed answer, without `done`."""

    @abstractmethod
    def error_event(self) -> bytes:
        """How the engine says in a stream that it has failed."""

    @abstractmethod
    def bad_event(self) -> bytes:
        """An event whose data is no UTF-8."""


def named_event(name: str, document: dict[str, Any]) -> bytes:
    """An event of the APIs whose events have names: the name is the data's `type` as well."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **document}) + b"\n\n"
