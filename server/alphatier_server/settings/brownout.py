"""`[brownout]`: open choices slide to terser tiers while answers take too long."""

from typing import Self

from pydantic import Field, model_validator

from alphatier_server.settings.section import Section


class BrownoutSettings(Section):
    """Off without `seconds`. Each worker process looks at its own requests."""

    seconds: float | None = Field(
        None,
        gt=0,
        description="What an answer may take from its request's arrival on, in seconds: several times what it takes "
        "on an idle engine. [default: none, which is off]",
    )
    begin: float = Field(0.35, gt=0, le=1, description="Share of these seconds from which on answers are shortened.")
    full: float = Field(0.75, gt=0, le=1, description="Share from which on all are as short as can be.")
    back_seconds: float = Field(40.0, gt=0, description="Shortest time from full brownout to none.")
    dwell_seconds: float = Field(10.0, ge=0, description="How long the level stays after it has risen.")
    freeze: float | None = Field(
        None, ge=0, le=1, description="Hold this level, whatever the load: from 0, none, to 1. [default: by the load]"
    )

    @model_validator(mode="after")
    def _begins_before_it_is_full(self) -> Self:
        if self.begin >= self.full:
            raise ValueError(f"full: must be above begin; write e.g. {min(1.0, 2 * self.begin):g}, or lower begin")
        return self
