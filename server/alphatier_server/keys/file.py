"""Changes to the key file: a new entry, a revoked one. Comments and all other lines stay as they are.

Whole files are written beside the old one and renamed over it, so a gateway that reads at that moment sees one or
the other. Two commands at once take turns.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from alphatier_models.files import replace_file
from alphatier_server.errors import KeyFileError
from alphatier_server.keys.ring import KEY_PREFIX, ApiKey, check_keys, parse_keys
from alphatier_server.settings.show import toml_value

HEADER = """\
# API keys of an alphatier gateway: `alphatier keys new NAME` adds one, `alphatier keys revoke NAME` ends one.
# Keys stand here as their SHA-256. A running gateway reads this file again when it changes.
"""

_ENTRY = re.compile(r"^[ \t]*\[\[[ \t]*keys[ \t]*\]\][ \t]*(#.*)?$", re.MULTILINE)
_DISABLED = re.compile(r"^[ \t]*disabled[ \t]*=.*\n?", re.MULTILINE)


def new_key() -> str:
    """A key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def read_keys(file: Path) -> list[ApiKey]:
    """The file's keys; none where there is no file. Raises KeyFileError."""
    return parse_keys(_read(file), str(file))


def add_key(file: Path, key: ApiKey) -> None:
    """Append an entry, making the file where there is none. Raises KeyFileError."""

    def appended(text: str) -> str:
        keys = parse_keys(text, str(file))
        if key.name in {old.name for old in keys}:
            raise KeyFileError(f"{file} has a key called {key.name!r} already; choose another name.")
        check_keys([*keys, key])
        text = text or HEADER
        return text + ("" if text.endswith("\n") else "\n") + "\n" + entry_text(key)

    _change(file, appended)


def revoke_key(file: Path, name: str) -> None:
    """Mark an entry as disabled. Raises KeyFileError."""

    def revoked(text: str) -> str:
        keys = parse_keys(text, str(file))
        names = [key.name for key in keys]
        if name not in names:
            raise KeyFileError(f"{file} has no key called {name!r}; it has {', '.join(names) or 'none'}.")
        wanted = [key.model_copy(update={"disabled": True}) if key.name == name else key for key in keys]
        starts = [match.end() for match in _ENTRY.finditer(text)] + [len(text)]
        if len(starts) == len(keys) + 1:
            start, end = starts[names.index(name)], starts[names.index(name) + 1]
            changed = (
                text[:start] + "\ndisabled = true\n" + _DISABLED.sub("", text[start:end].lstrip("\n")) + text[end:]
            )
            with contextlib.suppress(KeyFileError):
                if parse_keys(changed, str(file)) == wanted:
                    return changed
        raise KeyFileError(
            f"{file} is written in a way that is not understood well enough; add `disabled = true` by hand."
        )

    _change(file, revoked)


def entry_text(key: ApiKey) -> str:
    """The key as an entry of the file."""
    values = {"name": key.name, "hash": key.hash} | key.model_dump(exclude_defaults=True)
    return "[[keys]]\n" + "".join(f"{name} = {toml_value(value)}\n" for name, value in values.items())


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeyFileError(f"Cannot read {file}: {reason}.") from error


def _change(file: Path, edit: Callable[[str], str]) -> None:
    file = file.resolve()  # a symbolic link stays one
    try:
        with _alone(file.parent):
            text = edit(_read(file))
            parse_keys(text, str(file))
            replace_file(file, text, stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o600)
    except OSError as error:
        raise KeyFileError(f"Cannot write {file}: {error.strerror}.") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other `alphatier keys` out of the folder; a command holds it for milliseconds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
