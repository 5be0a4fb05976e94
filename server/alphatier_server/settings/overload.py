"""`[overload]`: how much the gateway takes on at once, and how long the rest may wait for it."""

from typing import Literal

from pydantic import Field, field_validator

from alphatier_server.settings.section import Section

PriorityClass = Literal["high", "normal", "low"]

ENGINE_PRIORITIES: dict[PriorityClass, int] = {"high": -1, "normal": 0, "low": 1}
"""`priority` of vLLM's API, where lower runs earlier."""


LOWEST_ENGINE_PRIORITY = 2
"""Below every class: what no client waits for."""


class OverloadSettings(Section):
    """Each worker process counts by itself."""

    max_in_flight: int | None = Field(
        10_000, ge=0, description="Requests that a process works on at once; 0: any number."
    )
    max_in_flight_per_tier: int | None = Field(None, ge=0, description="The same for each tier.")
    max_in_flight_per_replica: int | None = Field(
        None, ge=0, description="The same for each engine; vLLM's --max-num-seqs, and a few more, fits."
    )
    max_queue: int | None = Field(
        1_000, ge=0, description="Requests that wait for one of these to end; 0: none does."
    )
    max_queue_seconds: float | None = Field(
        30.0, ge=0, description="Longest wait there, in seconds; 0: any time, which clients' own limits should end."
    )

    @field_validator("max_in_flight", "max_in_flight_per_tier", "max_in_flight_per_replica", "max_queue_seconds")
    @classmethod
    def _none_where_zero(cls, value: float | None) -> float | None:
        """A file cannot say None."""
        return value or None
