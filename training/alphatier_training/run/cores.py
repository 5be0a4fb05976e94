"""How many cores this process may use."""

import os


def cores() -> int:
    """The cores, as the scheduler allows them where it tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
