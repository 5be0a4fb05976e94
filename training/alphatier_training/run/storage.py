"""Disks that take no more: what the system and the libraries that write raise then, as one StorageError.

What: recognises them, and says what could not be written, why, and how to go on.
What not: nothing is checked beforehand; other errors pass as they are.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alphatier_training.errors import StorageError, TrainingError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

_BY_TORCH = ("PytorchStreamWriter failed", "file write failed", "unexpected pos", "iostream error")
"""torch's writer in C++ tells no reason."""

_BY_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers spell the system's errors."""


@contextmanager
def clear_storage_errors(folder: Path) -> Iterator[None]:
    """Raise StorageError in place of an error of the block that says a file below `folder` cannot be written."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if reason := _reason(error, folder):
            raise StorageError(
                f"cannot write {reason} ({_free(folder)}). Nothing finished is lost, and no checkpoint. "
                f"Make room on the disk of {folder}, then run the same command again: it goes on from there."
            ) from error
        raise


def _reason(error: Exception, folder: Path) -> str | None:
    """Which file cannot be written and why, as the error or what led to it says; None for other errors."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, OSError) and _is_storage(one, folder):
            return f"{one.filename or f'a file below {folder}'}: {os.strerror(one.errno or 0)}"
        if (found := _BY_RUST.search(str(one))) and int(found[1]) in _FULL:
            return f"a file below {folder}: {os.strerror(int(found[1]))}"
    if any(isinstance(one, RuntimeError) and any(sign in str(one) for sign in _BY_TORCH) for one in chain):
        return f"a checkpoint below {folder}: the disk took only a part of it"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_storage(error: OSError, folder: Path) -> bool:
    if error.errno in _FULL:
        return True
    inside = isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(folder.absolute())
    return error.errno in _FORBIDDEN and inside


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB are free"
    except OSError:
        return "the free space is not known"
