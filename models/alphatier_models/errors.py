"""The errors of this package.

FamilyError        a family that cannot be used; carries one FamilyProblem for each fault found
EditError          a family that cannot be made or changed as was asked; the message names the remedy
  BlendError         tiers that cannot be blended
  GatedError         a gated adapter that cannot be read, or not at this alpha
  HubError           what the hub does not give or take
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FamilyProblem:
    """One fault of a family: where it is, what is wrong, and what to do about it."""

    field: str
    """Dotted path into family.json, e.g. `tiers[2].alpha`; empty when the file as a whole is at fault."""
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.problem}. {self.remedy}"


class FamilyError(ValueError):
    """A family.json, or a file that it names, is not usable; `problems` lists every fault found."""

    def __init__(self, path: Path, problems: list[FamilyProblem]) -> None:
        self.path = path
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{path} is not a usable family:\n{lines}")


class EditError(ValueError):
    """A family cannot be made or changed as was asked; nothing was changed."""


class BlendError(EditError):
    """A blend that was asked for cannot be made."""


class HubError(EditError):
    """The hub does not give or take what was asked for."""


class GatedError(EditError):
    """A gated adapter cannot be read, or not be made an ordinary one at the alpha asked for."""
