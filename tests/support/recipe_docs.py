"""What training/README.md must say about a recipe's fields.

Print the rows of its table: python tests/support/recipe_docs.py
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from alphatier_training.recipe import Recipe


def rows(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """One Markdown row a field, sections before their fields."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        path = f"{prefix}{name}"
        yield f"| `{path}` | {'' if section else _default(field.default)} | {field.description} |"
        if section:
            yield from rows(section, f"{path}." if section is field.annotation else f"{path}[].")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone or as a list."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if hasattr(value, "__dataclass_fields__"):
        return "as in `traces.py`"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    print("\n".join(rows()))
