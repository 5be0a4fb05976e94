"""How long the gateway waits for an engine, and how much it takes from one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UpstreamLimits:
    """Times in seconds, sizes in bytes."""

    connect: float = 5.0
    """Longest wait for a connection."""
    first_byte: float = 600.0
    """Longest wait from the request to the first byte of the answer: a long queue, a long prompt."""
    idle: float = 600.0
    """Longest silence in the middle of an answer."""
    response_bytes: int = 256 * 1024 * 1024
    """Largest answer that is not streamed."""
    keep_alive: float = 4.0
    """How long an unused connection is kept. Uvicorn, and so vLLM, closes one after 5 seconds."""
    kept_connections: int = 512
    """Most unused connections to one engine."""
