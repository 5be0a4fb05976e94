"""What one API is to the gateway: where the effort stands, what the engine is sent, how answers and errors look."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from alphatier_models import Reasoning
from alphatier_server.dialects.efforts import Effort
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import EngineFailed, GatewayError


class Target(NamedTuple):
    """Who answers a request, as far as its API must know: names, marks, and what the engine can do."""

    model: str
    """The public model name, `<family>:<tier>`."""
    engine_model: str
    """The name under which the engine knows the tier."""
    reasoning: Reasoning | None = None
    """How the family marks its thinking."""
    continuous_usage: bool = False
    """Whether the engine can report usage with every chunk (vLLM), so that aborted requests are counted."""
    adds_metrics: bool = False
    """Whether the engine adds its own `metrics` object to answers because the gateway asked it to."""
    reasoning_content: bool = False
    """Whether the thinking is sent as `reasoning_content` too, beside `reasoning`."""
    priority: int | None = None
    """The `priority` that the engine is told, whatever the client says; None leaves the client's own."""

    @property
    def mark(self) -> str | None:
        """What the family's thinking begins with."""
        return None if self.reasoning is None else self.reasoning.start


@dataclass(slots=True)
class Observed:
    """What a relay saw. Moments are `time.perf_counter` seconds."""

    usage: Usage | None = None
    first_token: float | None = None
    first_answer_token: float | None = None
    last_token: float | None = None
    queue_seconds: float | None = None
    cut_off: bool = False
    """Whether the answer ended at a limit of tokens."""
    error: dict[str, Any] | None = None
    """The error object, when the engine ended the stream with an error event."""


class Relay(ABC):
    """Server-sent events from the engine in, server-sent events for the client out. No I/O.

    `feed` takes bytes as they arrive, split anywhere, and returns the bytes to send; `finish` is called
    once the engine has closed the stream, and raises EngineFailed when the stream broke off. `observed`
    is right at any moment, so that a cancelled request is accounted for as far as the engine told.
    """

    def __init__(self) -> None:
        self.clock: Callable[[], float] = time.perf_counter
        self._seen = Observed()
        self.done = False
        """Whether the stream's last event has been seen."""

    @property
    def observed(self) -> Observed:
        """What was seen so far."""
        self._seen.usage = self.usage()
        return self._seen

    def usage(self) -> Usage | None:
        """The tokens as far as the engine told."""
        return None

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the events that `data` completes. Raises EngineFailed."""

    @abstractmethod
    def finish(self) -> bytes:
        """The client's last bytes. Raises EngineFailed when the engine's stream broke off."""

    def note_token(self, answer: bool) -> None:
        """A token has come: of the answer, or of something before it."""
        seen = self._seen
        seen.last_token = now = self.clock()
        if seen.first_token is None:
            seen.first_token = now
        if answer and seen.first_answer_token is None:
            seen.first_answer_token = now


class Dialect(ABC):
    """One API. Without state: one object serves all requests."""

    path: str
    """Where clients and engines find it, e.g. `/v1/chat/completions`."""
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    """The HTTP methods that it takes."""
    endpoint: str
    """Its name in metrics and logs, e.g. `chat/completions`."""
    generates: bool = True
    """Whether it uses tokens, which a key's limits count."""
    as_it_came: ClassVar[bool] = False
    """Whether answers go to the client as they came, with the engine's own content type."""
    keep_alive: ClassVar[bytes] = b": keep-alive\n\n"
    """What a stream that is silent for long is sent: a comment, which clients ignore. Empty: nothing may be."""
    request_id_headers: ClassVar[tuple[bytes, ...]] = (b"x-request-id",)
    """The headers of an answer that carry the request's id."""

    @abstractmethod
    def efforts(self, body: Mapping[str, Any]) -> Sequence[Effort]:
        """Where the body says how much to think. Raises InvalidRequest, also for what the API cannot do here."""

    @abstractmethod
    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The body for the engine: its own model name, no selectors, usage reports as fine as it can give."""

    @abstractmethod
    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        """The relay for the stream that answers this request."""

    def answer(self, raw: bytes, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        """The client's bytes for a whole (not streamed) answer. Raises EngineFailed when it cannot be read."""
        try:
            return self.edited_answer(JsonObject(raw), body, target)
        except JsonError as error:
            raise EngineFailed(f"The engine's answer cannot be read: {error}.", code="engine_failed") from error

    def edited_answer(self, answer: JsonObject, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        """The client's bytes for a whole answer that could be read. Raises JsonError."""
        return answer.raw, Observed()

    def error_body(self, error: GatewayError, request_id: str = "") -> bytes:
        """The body of an error answer, in the API's shape."""
        return error.body()

    def error_event(self, error: GatewayError, relay: Relay | None = None) -> bytes:
        """The last event of a stream that broke, in the API's shape; `relay` is the stream's. Empty: break it off."""
        return b"data: %b\n\n" % error.body()
