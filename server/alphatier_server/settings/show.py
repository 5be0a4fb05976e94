"""The settings in effect, for `--check-config`: as TOML-like lines or as JSON, with secrets hidden."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

HIDDEN = "**********"
_SECRET_NAME = re.compile(r"(^|_)(password|secret|token|api_key)$")
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


def effective(settings: BaseModel) -> dict[str, Any]:
    """JSON-able settings, every default filled in, without secrets."""
    document: dict[str, Any] = _hidden("", settings.model_dump())
    return document


def lines(document: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """The settings as a configuration file would hold them; what is not set is a comment."""
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
                inner = list(lines(item))
                yield from (f"[[{name}]]", *inner)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
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


def _hidden(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _hidden(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(name, item) for item in value]
    if isinstance(value, SecretStr | SecretBytes) or _SECRET_NAME.search(name):
        return HIDDEN
    return _URL_PASSWORD.sub(f"{HIDDEN}@", str(value))
