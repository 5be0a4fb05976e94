"""What an audit has counted so far, and what did not agree."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Sight = dict[str, Any]
"""`client.seen.Seen` as read from a client's file."""

Line = dict[str, Any]
"""One line of the gateway's request log."""


def stayed(sight: Sight) -> bool:
    """Whether the client waited for the end of its answer, whatever that was."""
    return sight["result"] in ("ok", "error", "broken")


@dataclass
class Books:
    """What was counted, and each thing that does not agree."""

    wrong: list[str] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers by API."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals that clients saw, by reason."""
    refused_unseen: Counter[str] = field(default_factory=Counter)
    """Recorded refusals, by log's `error`, whose clients had left."""
    most_streams: dict[str, int] = field(default_factory=dict)
    """By key with a limit on them: most streams that clients saw open at once."""
    not_logged: int = 0
    """Requests that the gateway counted and whose lines are lost."""
    missing: list[str] = field(default_factory=list)
    """Requests without a line that the gateway must have got whole, with what their clients saw."""
    turned_away: int = 0
    unrecorded: int = 0
    """Requests whose client reset the connection before the gateway can have read them."""
    answered_whole: int = 0
    healthy: int = 0
    slowest_overrun: float = 0.0
    """Longest time that a request lived past its own deadline, in seconds."""

    def complain(self, text: str) -> None:
        """Something does not agree."""
        self.wrong.append(text)
