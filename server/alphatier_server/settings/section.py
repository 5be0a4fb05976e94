"""What all tables of the configuration file have in common."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _anchored(value: Any, info: ValidationInfo) -> Any:
    """Text is a path in the file, relative to its folder; the command line gives paths."""
    return info.context / value if isinstance(info.context, Path) and isinstance(value, str) else value


File = Annotated[Path, Field(strict=False), BeforeValidator(_anchored)]
