"""What a checkpoint of any training is: a folder `checkpoint-STEP` that is whole once it has its list of contents.

    checkpoint-30/...             whatever the training goes on from
    checkpoint-30/complete.json   every file's size and SHA-256, written last

What: a checkpoint that is not whole, or not as it was written, is never gone on from. What not: what is in one.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from alphatier_training.run.folder import sync, write_text

COMPLETE = "complete.json"


def mark_whole(checkpoint: Path) -> None:
    """List the contents of a checkpoint all of whose files are written."""
    files = _files(checkpoint)
    for file in files.values():
        sync(file)
    contents = {name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for name, file in files.items()}
    write_text(checkpoint / COMPLETE, json.dumps(contents, indent=1) + "\n")


def newest(folder: Path, tell: Callable[[str], None] = print) -> Path | None:
    """The newest whole checkpoint below `folder`; half-written ones are deleted, damaged ones set aside and told."""
    drop_half_written(folder)
    for path in reversed(in_order(folder)):
        damage = _damage(path)
        if damage is None:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        tell(f"{path} is damaged ({damage}); it is set aside as {aside.name}, and what was before it is used")
    return None


def drop_half_written(folder: Path) -> None:
    """Delete the checkpoints below `folder` whose writing did not end."""
    for path in in_order(folder):
        if not (path / COMPLETE).is_file():
            shutil.rmtree(path)


def in_order(folder: Path) -> list[Path]:
    """The checkpoints below `folder` by their steps, whole or not."""
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.partition("-")[2])


def _files(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {str(path.relative_to(folder)): path for path in sorted(files)}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint that was whole once."""
    found = _files(checkpoint)
    try:
        contents = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        for name, content in contents.items():
            if name not in found:
                return f"{name} is not there"
            if (size := found[name].stat().st_size) != content["bytes"]:
                return f"{name} has {size} bytes, not {content['bytes']}"
            if _sha256(found[name]) != content["sha256"]:
                return f"{name} is not what was written"
    except (ValueError, TypeError, AttributeError, KeyError):
        return f"{COMPLETE} cannot be read"
    return None
