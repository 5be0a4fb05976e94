"""Where the base of a run is, and what family.json calls it: written by the stage `base`, read by all later ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from alphatier_models import directory_sha256, text_sha256
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.run.folder import RunFolder, write_text


@dataclass(frozen=True)
class BaseReference:
    """The base of a family."""

    model: str
    """As family.json names it: `base`, the folder beside it, or a hub id."""
    revision: str | None
    """The hub commit; None for a folder."""
    path: str
    """Where the files are on this machine."""
    sha256: str | None
    """Checksum of the folder; None for a hub id."""

    @property
    def identity(self) -> str:
        """What tells these weights from any others."""
        return self.sha256 or f"{self.model}@{self.revision}"

    @property
    def seen_from_an_adapter(self) -> str:
        """What an adapter in the family calls its base, so that a family can be moved as a whole."""
        return self.model if self.sha256 is None else f"../{self.model}"

    def chat_template_sha256(self) -> str | None:
        """Checksum of the chat template; None where the base has none in a file of its own."""
        template = Path(self.path) / "chat_template.jinja"
        return text_sha256(template.read_text(encoding="utf-8")) if template.is_file() else None


def folder_reference(folder: RunFolder) -> BaseReference:
    """The reference to a base that lies in the family's own folder."""
    return BaseReference(folder.base.name, None, str(folder.base), directory_sha256(folder.base))


def save_reference(folder: RunFolder, reference: BaseReference) -> None:
    """Remember where a base from a hub lies."""
    write_text(_file(folder), json.dumps(asdict(reference), indent=1) + "\n")


def load_reference(folder: RunFolder) -> BaseReference:
    """The base of a run whose stage `base` is done."""
    if _file(folder).is_file():
        return BaseReference(**json.loads(_file(folder).read_text(encoding="utf-8")))
    return folder_reference(folder)


def weights_of(recipe: Recipe, folder: RunFolder, tier: str) -> tuple[Path, Path | None]:
    """The whole model of a tier, and the adapter over it if it has one."""
    base = Path(load_reference(folder).path)
    if tier == BASE_TIER:
        return base, None
    return (base, folder.tier(tier)) if recipe.rl.lora else (folder.tier(tier), None)


def _file(folder: RunFolder) -> Path:
    return folder.work / "base.json"
