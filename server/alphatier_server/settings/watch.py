"""Notices that files changed, by what `stat` says of them: cheap enough for every second, on any file system."""

from pathlib import Path


class FileWatch:
    """A few files. A file that is missing counts as changed once it goes and once it comes."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._seen = [_stamp(file) for file in files]

    def changed(self) -> bool:
        """Whether any file differs from what it was at the last call (or at the start)."""
        before, self._seen = self._seen, [_stamp(file) for file in self._files]
        return self._seen != before


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
