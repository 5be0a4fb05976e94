"""Checksums of tiers: one sha256 for a folder of weights, whatever order the file system lists it in."""

import hashlib
from pathlib import Path


def text_sha256(text: str) -> str:
    """The sha256 of `text` in UTF-8, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def directory_sha256(folder: Path) -> str:
    """One sha256 over every regular file below `folder` (names and contents), as 64 hex digits.

    It is the sha256 of the lines `<sha256 of the file>  <relative path with />` and a line end,
    sorted by path: what `cd FOLDER && find . -type f -not -path '*/.*' | sed 's|^./||' | LC_ALL=C sort | xargs
    sha256sum | sha256sum` prints. Hidden files are left out, as they are no part of a model.
    """
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = sorted(
        (path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts)),
        key=lambda name: name.encode(),
    )
    lines = (f"{_file_sha256(folder / name)}  {name}\n" for name in visible)
    return text_sha256("".join(lines))


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
