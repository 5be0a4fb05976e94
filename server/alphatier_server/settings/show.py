"""The settings in effect, for `--check-config`, as a configuration file would hold them."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any


def without_passwords(text: str) -> str:
    """The same without what may stand before the host of a URL; secrets have types that hide themselves."""
    return re.sub(r'(?<=://)[^/@\s"]*@', "**********@", text)


def lines(document: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """TOML of settings as JSON values; what is not set is a comment."""
    scalars = {key: value for key, value in document.items() if not _is_table(value)}
    if table and (scalars or not document):
        yield f"[{table}]"
    for key, value in scalars.items():
        yield f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}"
    yield ""
    for key, value in document.items():
        name = f"{table}.{key}" if table else key
        if isinstance(value, Mapping):
            yield from lines(value, name)
        elif _is_table(value):
            for item in value:
                yield from (f"[[{name}]]", *lines(item))


def _is_table(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, Mapping) for item in items)


def toml_value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value).removesuffix(".0")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
