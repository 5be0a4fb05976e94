"""The one error of this package, whose message names what is wrong and the remedy, and how commands tell it."""

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from alphatier_models import EditError, FamilyError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

_BY_TORCH = ("PytorchStreamWriter failed", "file write failed", "unexpected pos", "iostream error")
"""torch's writer in C++ tells no reason."""

_BY_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers spell the system's errors."""


class TrainingError(Exception):
    """Training or evaluation cannot go on."""


EXPECTED = (TrainingError, FamilyError, EditError)
"""What a command shows as its message alone."""


@contextmanager
def told(folder: Path = Path()) -> Iterator[None]:
    """What every command does around its work: an error is its message alone, and Ctrl-C says how to go on.

    `folder` is where the command writes. Raises click.ClickException, or ends with status 130.
    """
    try:
        with clear_storage_errors(folder):
            yield
    except EXPECTED as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nStopped; nothing is lost. Go on with the same command.", err=True)
        sys.exit(130)


@contextmanager
def clear_storage_errors(folder: Path) -> Iterator[None]:
    """Raise TrainingError in place of an error of the block that says a file below `folder` cannot be written.

    Such an error is told by what the system, or the library that wrote, raised; others pass as they are.
    """
    try:
        yield
    except EXPECTED:
        raise
    except Exception as error:
        if reason := next(filter(None, (_unwritten(one, folder) for one in _chain(error))), None):
            free = f"{free_bytes(folder) / 1e6:,.0f} MB are free"
            raise TrainingError(
                f"cannot write {reason} ({free}). Nothing finished is lost, and no checkpoint. Make room on the disk "
                f"of {folder}, then run the same command again: it goes on from there."
            ) from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unwritten(error: BaseException, folder: Path) -> str | None:
    """Which file could not be written and why; None for other errors."""
    if isinstance(error, OSError):
        inside = isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(folder.absolute())
        if error.errno in _FULL or (error.errno in _FORBIDDEN and inside):
            return f"{error.filename or f'a file below {folder}'}: {os.strerror(error.errno)}"
    if (found := _BY_RUST.search(str(error))) and int(found[1]) in _FULL:
        return f"a file below {folder}: {os.strerror(int(found[1]))}"
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _BY_TORCH):
        return f"a checkpoint below {folder}: the disk took only a part of it"
    return None


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or will be."""
    whole = folder.absolute()
    return shutil.disk_usage(next(place for place in (whole, *whole.parents) if place.is_dir())).free
