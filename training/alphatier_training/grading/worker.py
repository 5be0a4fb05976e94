"""The process in which math-verify runs, so that a comparison that never ends can be killed.

What: reads `[given, right]` as one JSON line, writes `true` or `false` as one line; ends with its input.
The kernel ends it when a comparison has used up its processor time (SIGPROF) or five times that by the clock
(SIGALRM), even if Python does not get its turn in a long multiplication and even if nobody is left outside to
kill it. Processor time, as a busy machine must not make a right answer wrong.
What not: not math-verify's own limits (they raise inside the comparison, which may catch what they raise).

    echo '["1/2", "0.5"]' | python -m alphatier_training.grading.worker 3
"""

import json
import logging
import math
import resource
import signal
import sys
from typing import Any

WALL_FACTOR = 5
"""On a busy machine a comparison may take so many times its processor time by the clock."""

START_SECONDS = 120
"""How long the import of math-verify may take; about a second on a machine with nothing else to do."""

MEMORY_BYTES = 2 << 30
"""Address space of the process; a comparison that wants more is wrong, not the end of the machine."""

PLACES = 6
"""Decimal places to which math-verify compares a decimal (its default), and significant digits below 1."""


def main() -> None:
    """Answer requests until the input ends."""
    for kills in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kills, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one outside, who may want to finish
    limit = float(sys.argv[1])
    logging.disable(logging.CRITICAL)
    answers, sys.stdout = sys.stdout, sys.stderr
    _limit(0, START_SECONDS)
    equal(r"\frac{1}{2}", "0.5")  # the first comparison builds the parser's tables
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    _limit(0, 0)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        given, right = json.loads(line)
        _limit(limit, limit * WALL_FACTOR)
        verdict = equal(given, right)
        _limit(0, 0)
        print(json.dumps(verdict), file=answers, flush=True)


def equal(given: str, right: str) -> bool:
    """Whether math-verify finds the two expressions equal; False where it raises."""
    from math_verify import parse, verify

    try:
        parsed_right, parsed_given = (
            parse(rf"\boxed{{{text}}}", parsing_timeout=None, raise_on_error=False) for text in (right, given)
        )
        places = _places(parsed_right)
        return bool(verify(parsed_right, parsed_given, places, timeout_seconds=None, raise_on_error=False))
    except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError):
        return False


def _places(right: list[Any]) -> int:
    """Enough places for six significant digits: at six places 0.0000671 would equal 0.0000672."""
    first: Any = right[0] if right else None
    value = abs(float(first)) if getattr(first, "is_Number", False) and first.is_finite else 0.0
    return PLACES - min(0, math.floor(math.log10(value)) + 1) if value else PLACES


def _limit(processor: float, clock: float) -> None:
    """Have the kernel end this process after so many seconds of either; 0 is no limit."""
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, clock)


if __name__ == "__main__":
    main()
