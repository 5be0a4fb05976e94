"""What training/recipes/README.md must say about a recipe's fields.

Print its tables: python tests/support/recipe_docs.py
"""

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from alphatier_training.recipe import Recipe


def rows() -> Iterator[str]:
    """One Markdown row a field, sections before their fields; a section that is used again is not repeated."""
    return _rows(Recipe, "", {})


def _rows(model: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections, path = list(_sections(field.annotation)), f"{prefix}{name}"
        again = [seen[section] for section in sections if section in seen]
        meaning = f"{field.description}; fields as of `{again[0]}`" if again else field.description
        yield f"| `{path}` | {_default(field, sections)} | {meaning} |"
        for section in sections:
            if section not in seen:
                seen[section] = f"{path}{_suffix(field, section, sections)}"
                yield from _rows(section, f"{seen[section]}.", seen)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field can hold: alone, as a list, or as one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not dict:
        for argument in get_args(annotation):
            yield from _sections(argument)


def _suffix(field: FieldInfo, section: type[BaseModel], sections: list[type[BaseModel]]) -> str:
    """`[]` for a list, the value that tells which for one of several."""
    if len(sections) > 1:
        return f"({tag_of(section)})"
    return "[]" if get_origin(field.annotation) is tuple else ""


def tag_of(section: type[BaseModel]) -> str:
    """The value of `kind` or `source` that chooses this section."""
    field = next(section.model_fields[key] for key in ("kind", "source") if key in section.model_fields)
    assert get_origin(field.annotation) is Literal
    return str(get_args(field.annotation)[0])


def _default(field: FieldInfo, sections: list[type[BaseModel]]) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if hasattr(value, "__dataclass_fields__"):
        return "as in `recipe/base.py`"
    if len(sections) > 1:
        return f"`{tag_of(type(value))}`"
    if sections and value is not None and value != ():
        return ""
    return f"`{json.dumps(to_jsonable_python(value))}`"


if __name__ == "__main__":
    print("\n".join(rows()))
