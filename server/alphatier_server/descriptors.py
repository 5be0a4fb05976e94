"""File descriptors: each client and each connection to an engine takes one."""

import resource

_SPARE = 128
"""For listeners, logs, engines' pipes and health checks."""


def most_connections() -> int:
    """Raise the soft limit of descriptors to the hard one.

    Returns how many clients may be connected so that each can have a connection to an engine, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS says infinite and means less
            wanted = soft
    return max(16, (wanted - _SPARE) // 2)
