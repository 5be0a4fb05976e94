"""Where the base of a run is, and what family.json calls it: written by the stage `base`, read by all later ones."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alphatier_models import Base, directory_sha256, text_sha256
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

    @property
    def seen_from_an_adapter(self) -> str:
        """What an adapter in the family calls its base, so that a family can be moved as a whole."""
        return f"../{self.model}" if self.revision is None else self.model

    def as_base(self) -> Base:
        """The base as family.json describes it; reads all of a folder for its checksum."""
        template = Path(self.path) / "chat_template.jinja"
        return Base(
            model=self.model,
            revision=self.revision,
            sha256=directory_sha256(Path(self.path)) if self.revision is None else None,
            chat_template_sha256=text_sha256(template.read_text(encoding="utf-8")) if template.is_file() else None,
        )


def save_reference(folder: RunFolder, reference: BaseReference) -> None:
    """Remember where a base from a hub lies."""
    write_text(_file(folder), json.dumps(asdict(reference), indent=1) + "\n")


def load_reference(folder: RunFolder) -> BaseReference:
    """The base of a run whose stage `base` is done."""
    if _file(folder).is_file():
        found = BaseReference(**json.loads(_file(folder).read_text(encoding="utf-8")))
        return found if Path(found.path).is_dir() else _fetched_here(found)
    return BaseReference(folder.base.name, None, str(folder.base))


def weights_of(recipe: Recipe, folder: RunFolder, tier: str) -> tuple[Path, Path | None]:
    """The whole model of a tier, and the adapter over it if it has one."""
    base = Path(load_reference(folder).path)
    if tier == BASE_TIER:
        return base, None
    return (base, folder.tier(tier)) if recipe.rl.lora else (folder.tier(tier), None)


def _fetched_here(there: BaseReference) -> BaseReference:
    """A base that another machine fetched, in the hub's cache of this one."""
    from alphatier_training.base.pretrained import snapshot

    return replace(there, path=str(snapshot(there.model, there.revision)))


def _file(folder: RunFolder) -> Path:
    return folder.work / "base.json"
