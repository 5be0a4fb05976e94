"""The stage `base` of a model that exists: a folder becomes part of the family, a hub model is fetched and pinned.

What: files linked (or copied) into the family's folder, or the hub's snapshot in its cache and its commit.
What not: no training, and no code of the model's own is run (`trust_remote_code` is never set).
"""

import os
import shutil
from pathlib import Path

from alphatier_training.base.reference import BaseReference, save_reference
from alphatier_training.errors import HubError, RecipeError
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.run.folder import RunFolder, replacing

WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""The files of a model that its tiers need; not its other formats, which may double the download."""


def fetch_base(plan: PretrainedBase, folder: RunFolder) -> None:
    """Put the base into the family's folder, or into the hub's cache with its commit remembered.

    Raises:
        RecipeError: there is no such folder, it holds no model, or the hub cannot give it.
    """
    local = Path(plan.model).expanduser()
    if local.is_dir():
        _adopt(local, folder)
    elif not plan.is_on_hub():
        raise RecipeError(f"base.model: there is no folder {plan.model}; give a folder that exists, or a hub id")
    else:
        save_reference(folder, _fetch(plan))


def _adopt(local: Path, folder: RunFolder) -> None:
    files = sorted({file for pattern in WANTED for file in local.glob(pattern)})
    for wanted in ("config.json", "tokenizer_config.json"):
        if not (local / wanted).is_file():
            raise RecipeError(f"base.model: {local} has no {wanted}; give a folder that `save_pretrained` wrote")
    if not any(file.suffix == ".safetensors" for file in files):
        raise RecipeError(f"base.model: {local} has no *.safetensors; save the model with `save_pretrained`")
    with replacing(folder.base) as new:
        for file in files:
            _link(file.resolve(), new / file.name)


def _link(source: Path, target: Path) -> None:
    """A hard link, which costs no space, or a copy where the two are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fetch(plan: PretrainedBase) -> BaseReference:
    try:
        path = snapshot(plan.model, plan.revision)
    except HubError as error:
        raise RecipeError(
            f"base.model: {error} Check its spelling and your connection (HF_TOKEN for gated models), "
            "or give a folder."
        ) from error
    return BaseReference(plan.model, path.name, str(path))  # a snapshot's folder is called by its commit


def snapshot(model: str, revision: str | None) -> Path:
    """The files of a hub model, from its cache or fetched.

    Raises:
        HubError: the hub cannot give it; callers know the remedy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise HubError(f"{model} could not be fetched from the hub ({reason}).") from error
