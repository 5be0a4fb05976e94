"""Reading a recipe: YAML to `Recipe`, with every fault named by its key."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe


def load_recipe(path: Path) -> Recipe:
    """Read and check the recipe at `path`.

    Raises:
        TrainingError: with every fault, each named by its key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}. Recipes are in training/recipes/.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not YAML: {error}") from error
    return parse_recipe(document, str(path))


def parse_recipe(document: Any, source: str) -> Recipe:
    """Check a recipe that was read from `source`; raises TrainingError with every fault."""
    if not isinstance(document, dict):
        raise TrainingError(f"{source} holds no recipe: expected keys and values such as `name: tiny`")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        faults = "\n".join(f"  - {_fault(details)}" for details in error.errors())
        raise TrainingError(f"{source} is not a usable recipe:\n{faults}") from error


_TAGS = {
    "problems": ("arithmetic", "data"),
    "base": ("supervised", "pretrained"),
    "penalty": ("sigmoid", "linear", "min_max", "target", "shortest"),
}
"""Fields that hold one of several sections, and the values that tell which."""


def _path(location: tuple[int | str, ...]) -> str:
    """The key of a fault; pydantic puts the chosen section's tag into it, which is no key of the file."""
    kept = [part for at, part in enumerate(location) if not (at and part in _TAGS.get(str(location[at - 1]), ()))]
    return ".".join(map(str, kept))


def _fault(details: Any) -> str:
    field = _path(details["loc"])
    kind = details["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{field}: unknown key. Remove it, or check its spelling against training/README.md"
    if kind == "missing":
        return f"{field}: missing. Add it; training/README.md describes every key"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key, allowed = details["ctx"]["discriminator"].strip("'"), _TAGS[str(details["loc"][-1])]
        return f"{field}.{key}: give one of {', '.join(allowed)}; training/README.md describes them"
    if kind == "value_error":
        return (f"{field}." if field else "") + str(details["msg"]).removeprefix("Value error, ")
    return f"{field}: {details['msg']}, but it is {details['input']!r}"
