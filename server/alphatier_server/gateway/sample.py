"""What is kept of a request and of its answer until it was held against the reference tier's: in memory alone."""

from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.gateway.decide import Decision

KEPT_BYTES = 64 * 1024
"""At most twice as much of a stream's end, where the final answer is: some 300 tokens or more, read in 5 ms."""


class Sample:
    """One request, and the end of its answer as the client got it."""

    __slots__ = ("_parts", "body", "decision", "dialect", "size", "streamed")

    def __init__(self, dialect: Dialect, body: JsonObject, decision: Decision, *, streamed: bool) -> None:
        self.dialect = dialect
        self.body = body
        self.decision = decision
        self.streamed = streamed
        self._parts: list[bytes] = []
        self.size = 0
        """Bytes that are kept."""

    def take(self, data: bytes) -> None:
        """The next bytes of a stream, or the whole answer."""
        self._parts.append(data)
        self.size += len(data)
        if self.streamed and self.size > 2 * KEPT_BYTES:
            end = b"".join(self._parts)[-KEPT_BYTES:]
            self._parts, self.size = [end], len(end)

    def answer(self) -> bytes:
        """What was kept."""
        return b"".join(self._parts)
