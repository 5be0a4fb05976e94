"""What a soak is asked to do, and what it has found."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """What to do. `requests` are shared among `clients` processes of `users` connections each."""

    requests: int
    seed: int = 0
    engines: int = 4
    clients: int = 2
    users: int = 64
    gateway: tuple[str, ...] = ()
    """More options for `alphatier serve`."""
    asgi: bool = False
    """Run it under plain uvicorn, not as `alphatier serve`."""
    redis: bool = True
    """Count limits in a Redis, which breaks; else in the gateway."""
    log_faults: bool = True
    scarcity: bool = True
    """Now and then the gateway may open no more files."""
    headers: tuple[str, ...] = ()
    """`NAME: VALUE` of every request, beside its key."""


@dataclass
class Figures:
    """What was measured; `wrong` is empty when everything held."""

    requests: int = 0
    seconds: float = 0.0
    results: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    unrecorded: int = 0
    healthy: int = 0
    healthy_answered: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    """Whole answers by API."""
    refused: dict[str, int] = field(default_factory=dict)
    """Refusals that clients saw, by reason: keys, tiers, limits."""
    most_streams: dict[str, int] = field(default_factory=dict)
    """Most streams that clients saw open at once, by key with a limit on them."""
    retries: float = 0.0
    log_lines_dropped: int = 0
    requests_not_logged: int = 0
    """Of those lines, the ones of requests."""
    turned_away: int = 0
    """Connections that the gateway closed without a word, having no descriptor for them."""
    redis_faults: dict[str, int] = field(default_factory=dict)
    redis_settled_seconds: float = 0.0
    """From the last answer until Redis held nothing."""
    scarcities: int = 0
    kills: int = 0
    freezes: int = 0
    slowest_overrun_seconds: float = 0.0
    slowest_pulse_seconds: float = 0.0
    """The gateway's slowest answer to a question that costs it nothing."""
    longest_block_seconds: float = 0.0
    """The same without the time in which others had the processor."""
    processor_seconds: float = 0.0
    resident_first_half: int = 0
    resident_second_half: int = 0
    resident_by_tenth: list[int] = field(default_factory=list)
    """Median of each tenth of the long round, in bytes."""
    descriptors: tuple[int, int, int] = (0, 0, 0)
    """Before, at most, after."""
    tasks: tuple[int, int] = (0, 0)
    objects: tuple[int, int] = (0, 0)
    """The gateway's own objects after a first short round, and in the end."""
    exit_status: int = -1
    wrong: list[str] = field(default_factory=list)
