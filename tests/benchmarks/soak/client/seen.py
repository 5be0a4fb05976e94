"""What a client saw of one request; the audit reads it again as JSON."""

from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "error", "broken", "cut", "malformed", "left", "stuck"]
"""ok: a whole answer. error: an error status. broken: a stream that ended with an error event. cut: an answer that
stopped without a word. malformed: something else than asked for. left: the client went. stuck: past its limit."""


@dataclass(slots=True)
class Seen:
    """What a client saw of one request."""

    number: int
    result: Result = "cut"
    status: int = 0
    reason: str = ""
    """Why the gateway refused it: one of `keys.REFUSALS`. Empty where it did not."""
    tokens: int = 0
    """Pieces of text that arrived."""
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    certain: bool = True
    """The gateway must have got the whole head of the request."""
    seconds: float = 0.0
    begun: float = 0.0
    """When a stream's head was seen, in seconds of the machine's monotonic clock; 0 for none."""
    held: float = 0.0
    """Until when the stream certainly had its place at the gateway: when a piece came that was not its end."""
    fresh: bool = False
    """Whether the connection was new: the gateway may never have taken it."""
    turned_away: int = 0
    """New connections that ended without a word before this request was answered on another."""
    remark: str = ""

    def wrong(self, remark: str) -> None:
        """The answer is not what was asked for."""
        self.result, self.remark = "malformed", remark[:200]
