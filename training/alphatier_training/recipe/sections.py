"""What all sections of a recipe share: strictness, and the types of their fields that pydantic has not."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def faults(self) -> Iterable[str]:
        """What does not fit together, each with its key and the remedy."""
        return ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if faults := "\n".join(self.faults()):
            raise ValueError(faults)
        return self
