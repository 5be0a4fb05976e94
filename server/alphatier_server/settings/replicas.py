"""How replicas are chosen, checked, taken out and let go: the values, their units and their defaults.

What not: where engines are (`settings.engines`) and how long one request may take (`settings.upstream`).
"""

from typing import Literal

from pydantic import Field

from alphatier_server.settings.section import Section


class PoolSettings(Section, strict=False):
    """The settings of the replicas. Times are in seconds."""

    affinity: Literal["none", "prefix"] = "none"
    """`prefix` sends a conversation's turns to the same replica, where their prefix is cached."""
    affinity_overload: float = Field(default=1.5, gt=1)
    """A replica with more than this many times the mean requests in flight is passed over."""
    affinity_slack: int = Field(default=4, ge=1)
    """Up to this many requests in flight a replica is never overloaded."""

    health_interval: float = Field(default=2.0, gt=0)
    """Between two checks of one engine."""
    health_timeout: float = Field(default=5.0, gt=0)
    """Longest wait for the answer to a check."""
    unhealthy_after: int = Field(default=2, ge=1)
    """Failed checks in a row that take a replica out."""
    healthy_after: int = Field(default=1, ge=1)
    """Good checks in a row that bring it back."""
    restart_after: float | None = Field(default=120.0, gt=0)
    """A managed engine that runs but was not healthy for this long is started again; None (in Python): never."""

    breaker_failures: int = Field(default=5, ge=1)
    """Failed requests in a row that open a replica's breaker."""
    breaker_share: float = Field(default=0.5, gt=0, le=1)
    """So does this share of failures among the last `breaker_window` requests."""
    breaker_window: int = Field(default=20, ge=1, le=1000)
    breaker_backoff: float = Field(default=1.0, gt=0)
    """How long a breaker stays open the first time; twice as long each time the probe fails."""
    breaker_longest: float = Field(default=10.0, gt=0)
    """The longest that it stays open."""

    retry_share: float = Field(default=0.2, ge=0, le=1)
    """Retries may be this share of the requests of the last ten seconds,"""
    retry_minimum: float = Field(default=1.0, ge=0)
    """and this many a second beside it, so that a quiet gateway can retry at all."""

    drain_limit: float | None = Field(default=3600.0, gt=0)
    """How long a draining engine's open requests may take before it is removed; None (in Python): for ever."""
