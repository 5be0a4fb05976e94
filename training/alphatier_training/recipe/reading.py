"""Reading a recipe: YAML to `Recipe`, with every fault named by its key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe

KEYS = "training/recipes/README.md"


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
        faults = [f"\n  - {fault}" for details in error.errors() for fault in _faults(details, document)]
        raise TrainingError(f"{source} is not a usable recipe:{''.join(faults)}") from error


def _faults(details: Any, document: Any) -> Iterator[str]:
    """What one of pydantic's errors says; a section may have several faults, a line each."""
    key, kind, context = _key(details["loc"], document), details["type"], details.get("ctx", {})
    tag = ".".join(filter(None, (key, context.get("discriminator", "").strip("'"))))
    if kind == "value_error":
        yield from ((f"{key}." if key else "") + fault for fault in str(context["error"]).splitlines())
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        yield f"{key}: unknown key. Remove it, or check its spelling against {KEYS}"
    elif kind in ("missing", "union_tag_not_found"):
        yield f"{tag}: missing. Add it; {KEYS} describes every key"
    elif kind == "union_tag_invalid":
        yield f"{tag}: give one of {context['expected_tags']}; {KEYS} describes them".replace("'", "")
    else:
        yield f"{key}: {details['msg']}, but it is {details['input']!r}"


def _key(location: tuple[int | str, ...], document: Any) -> str:
    """The key of a fault; where one of several sections is chosen, pydantic puts its name in, which is no key."""
    kept = []
    for part in location:
        if isinstance(document, dict) and part in (document.get("kind"), document.get("source")):
            continue
        kept.append(str(part))
        try:
            document = document[part]
        except (LookupError, TypeError):
            document = None
    return ".".join(kept)
