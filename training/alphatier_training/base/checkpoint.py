"""Checkpoints of the supervised base: the last one, and the one before in case the last cannot be read.

    OUT/work/checkpoints/base/last.pt, previous.pt      model, optimiser and schedule after some step

What: written whole or not at all, and checked before use. What not: what is in one is `supervised`'s.
"""

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

LAST, PREVIOUS = "last.pt", "previous.pt"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the last checkpoint, and keep the one that was; wherever this is interrupted, one of them is there."""
    last, temporary = folder / LAST, folder / f".{LAST}.tmp"
    try:
        with temporary.open("wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if last.exists():
        last.replace(folder / PREVIOUS)
    temporary.replace(last)


def newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest sound checkpoint in `folder`; `tell` is told of damaged ones, which are set aside."""
    for file in (folder / LAST, folder / PREVIOUS):
        if not file.is_file():
            continue
        damage = _damage(file)
        if damage is None:
            return file
        aside = file.replace(file.with_name(f"damaged-{file.name}"))
        tell(f"{file} is damaged ({damage}); it is set aside as {aside.name}, and what was before it is used")
    return None


def load(file: Path) -> dict[str, Any]:
    """What `save` was given."""
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def _damage(file: Path) -> str | None:
    """Why a checkpoint cannot be used. torch does not compare the checksums that it writes, zipfile does."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"the checksum of {broken} is wrong"
        load(file)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        return str(error).partition("\n")[0]
    return None
