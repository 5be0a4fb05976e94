"""The settings in effect, for `--check-config`, as a configuration file would hold them."""

import re
from collections.abc import Iterator, Mapping
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
        yield f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
    yield ""
    for key, value in document.items():
        name = f"{table}.{key}" if table else key
        if isinstance(value, Mapping):
            yield from lines(value, name)
        elif _is_table(value):
            for item in value:
                yield from (f"[[{name}]]", *lines(item))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(item, Mapping) for item in value)
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and abs(value) < 1e15 else str(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
