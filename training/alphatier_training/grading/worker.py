"""The process in which math-verify runs, so that a comparison that never ends can be killed.

What: reads `[given, right]` as one JSON line, writes `true` or `false` as one line; ends with its input.
What not: no time limit of its own (math-verify's needs signals, hence the main thread of a process).

    echo '["1/2", "0.5"]' | python -m alphatier_training.grading.worker
"""

import json
import logging
import resource
import sys

from math_verify import parse, verify

MEMORY_BYTES = 4 << 30
"""Address space of the process; a comparison that wants more is wrong, not the end of the machine."""


def equal(given: str, right: str) -> bool:
    """Whether math-verify finds the two expressions equal."""
    parsed_right, parsed_given = (
        parse(rf"\boxed{{{text}}}", parsing_timeout=None, raise_on_error=False) for text in (right, given)
    )
    return bool(verify(parsed_right, parsed_given, timeout_seconds=None, raise_on_error=False))


def main() -> None:
    """Answer requests until the input ends."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        given, right = json.loads(line)
        print(json.dumps(equal(given, right)), file=answers, flush=True)


if __name__ == "__main__":
    main()
