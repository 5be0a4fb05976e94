"""From a TOML file and a command line to settings.

The command line wins over the file, the file over the defaults. Relative paths in the file are relative to
the file's folder, those of the command line to the working directory. Every fault is reported at once, with
the key's full name and its remedy.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from alphatier_server.errors import ConfigError, ConfigProblem
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.options import KEYS

_README = "server/README.md lists every key"


@dataclass(frozen=True)
class Source:
    """Where the settings come from, so that they can be read again."""

    file: Path | None
    overrides: Mapping[str, Any]
    """What the command line sets, nested as the file is; it stays in force whatever the file says later."""

    def load(self) -> GatewayConfig:
        """The settings as they are now. Raises ConfigError."""
        document, folder = {}, None
        if self.file is not None:
            document, folder = _parsed(self.file), self.file.resolve().parent
            _validated(document, str(self.file), folder)  # by itself, so that its faults are told as its own
        try:
            return _validated(_merged(document, self.overrides), "the command line", folder)
        except ConfigError as error:
            options = {key: option for option, key in KEYS.items()}
            named = [replace(problem, where=options.get(problem.where, problem.where)) for problem in error.problems]
            raise ConfigError("the command line", named) from None


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = ConfigProblem("", "there is no such file", "Give the right path to --config")
    except OSError as error:
        problem = ConfigProblem("", f"it cannot be read: {error.strerror}", "Check the path and its permissions")
    except UnicodeDecodeError as error:
        problem = ConfigProblem("", f"it is not UTF-8 (byte {error.start})", "Save it as UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        problem = ConfigProblem("", f"it is not valid TOML: {error}", "Mend that line; https://toml.io explains TOML")
    raise ConfigError(str(file), [problem])


def _validated(document: Mapping[str, Any], source: str, folder: Path | None) -> GatewayConfig:
    try:
        return GatewayConfig.model_validate(document, context=folder)
    except ValidationError as error:
        raise ConfigError(source, [_problem(details) for details in error.errors()]) from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _problem(details: Any) -> ConfigProblem:
    where, kind = dotted(details["loc"]), details["type"]
    message = details["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return ConfigProblem(where, "unknown key", _nearest(details["loc"]))
    if kind == "missing":
        return ConfigProblem(where, "missing", f"Add it; {_README}")
    if kind == "value_error":
        return _own_problem(where, message)
    shown = _shown(details["input"], where)
    return ConfigProblem(where, f"{message[:1].lower()}{message[1:]}{shown}", _README)


def _own_problem(where: str, message: str) -> ConfigProblem:
    """Our validators say `[key: ]problem; remedy`."""
    key, separator, rest = message.partition(": ")
    if separator and " " not in key:
        where, message = (f"{where}.{key}" if where else key), rest
    problem, _, remedy = message.partition("; ")
    return ConfigProblem(where, problem.rstrip("."), (remedy[:1].upper() + remedy[1:]).rstrip("."))


def _shown(value: Any, where: str) -> str:
    """The value in an error message; tables and what may be secret are not shown."""
    if isinstance(value, Mapping | list) or any(word in where for word in ("key", "secret", "password", "url")):
        return ""
    return f", but it is {value!r}" if len(repr(value)) <= 60 else f", but it is {repr(value)[:57]}..."


def dotted(location: tuple[int | str, ...]) -> str:
    """`engines[1].url` for `("engines", 1, "url")`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _nearest(location: tuple[int | str, ...]) -> str:
    """The remedy for an unknown key: the nearest key of its table, or the table where it belongs."""
    *table, key = location
    known = dict(_tables(GatewayConfig, ()))
    here = known.get(tuple(part for part in table if isinstance(part, str)), [])
    if close := difflib.get_close_matches(str(key), here, n=1):
        return f"Did you mean {close[0]}"
    homes = {name: other for other, keys in reversed(known.items()) for name in keys}
    if (home := homes.get(str(key))) is not None:
        return f"It belongs into [{'.'.join(home)}]" if home else "It belongs above the first [table]"
    if close := difflib.get_close_matches(str(key), homes, n=1, cutoff=0.75):
        home = homes[close[0]]
        return f"Did you mean {close[0]} of {_table_name(home)}"
    return f"Remove it; there are {', '.join(sorted(here))}"


def _tables(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    yield path, list(model.model_fields)
    for name, info in model.model_fields.items():
        for inner in (info.annotation, *get_args(info.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _tables(inner, (*path, name))


def _table_name(table: tuple[str, ...]) -> str:
    return f"[{'.'.join(table)}]" if table else "the top of the file"
