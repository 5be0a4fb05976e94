"""The base of a run: where it is, what family.json calls it, and the stage `base` of a model that exists.

What: a folder's files are linked (or copied) into the family; a model of the hub is fetched into the hub's cache, and
its commit remembered in OUT/work/base.json. What not: no training, and no code of the model's own is run
(`trust_remote_code` is never set).
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alphatier_models import Base, directory_sha256, text_sha256
from alphatier_models.hub import fetched
from alphatier_models.weights import WANTED
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.run.folder import RunFolder, replacing, write_text


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


def fetch_base(plan: PretrainedBase, folder: RunFolder) -> None:
    """Put the base into the family's folder, or into the hub's cache with its commit remembered.

    Raises:
        TrainingError: there is no such folder, or it holds no model.
        HubError: the hub cannot give it.
    """
    local = Path(plan.model).expanduser()
    if local.is_dir():
        _adopt(local, folder)
    elif not plan.is_on_hub():
        raise TrainingError(f"base.model: there is no folder {plan.model}; give a folder that exists, or a hub id")
    else:
        path = fetched(plan.model, plan.revision)
        save_reference(folder, BaseReference(plan.model, path.name, str(path)))  # it is called by its commit


def save_reference(folder: RunFolder, reference: BaseReference) -> None:
    """Remember where a base from a hub lies."""
    write_text(folder.base_file, json.dumps(asdict(reference), indent=1) + "\n")


def load_reference(folder: RunFolder) -> BaseReference:
    """The base of a run whose stage `base` is done; one that another machine fetched is fetched here too."""
    if not folder.base_file.is_file():
        return BaseReference(folder.base.name, None, str(folder.base))
    found = BaseReference(**json.loads(folder.base_file.read_text(encoding="utf-8")))
    return found if Path(found.path).is_dir() else replace(found, path=str(fetched(found.model, found.revision)))


def _adopt(local: Path, folder: RunFolder) -> None:
    """Link a folder's files into the family, which costs no space, or copy them where the disks are different."""
    files = sorted({file for pattern in WANTED for file in local.glob(pattern)})
    for wanted in ("config.json", "tokenizer_config.json", "*.safetensors"):
        if not any(file.match(wanted) for file in files):
            raise TrainingError(f"base.model: {local} has no {wanted}; give a folder that `save_pretrained` wrote")
    with replacing(folder.base) as new:
        for file in files:
            try:
                os.link(file.resolve(), new / file.name)
            except OSError:
                shutil.copyfile(file, new / file.name)
