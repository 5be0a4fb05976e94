"""The key file and the variables as they change: read at start, then again whenever the file differs.

A file that cannot be read or understood changes nothing: the keys that were in force stay so, and the log says it
once. So a bad edit locks nobody out, and a file that is written slowly is read again when it is whole.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from alphatier_server.errors import KeyFileError
from alphatier_server.keys.ring import KeyRing, load_keys
from alphatier_server.settings.access import KeyLimits

log = logging.getLogger("alphatier")

_Mark = tuple[int, int, int] | None


class KeySource:
    """Keys of a file and of the environment; `ring` holds those in force. Raises KeyFileError when made."""

    def __init__(self, file: Path | None, environment: Mapping[str, str], defaults: KeyLimits) -> None:
        self._file = file
        self._environment = environment
        self._defaults = defaults
        self._mark = self._look()
        self.ring = self._read()
        if file is not None:
            _warn_of_readers(file)

    async def refresh(self) -> bool:
        """Read the file again if it has changed; whether other keys are in force now. Does not raise."""
        mark = self._look()
        if mark == self._mark:
            return False
        self._mark = mark
        try:
            self.ring = await asyncio.to_thread(self._read)
        except KeyFileError as error:
            log.error("%s The keys in force stay as they were.", error)
            return False
        assert self._file is not None
        log.warning("%s was read again: %d keys", self._file, len(self.ring.names))
        _warn_of_readers(self._file)
        return True

    def _read(self) -> KeyRing:
        return KeyRing(load_keys(self._file, self._environment), self._defaults)

    def _look(self) -> _Mark:
        """What tells one state of the file from another; a mounted Kubernetes secret changes by a symbolic link."""
        if self._file is None:
            return None
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def _warn_of_readers(file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        log.warning("%s can be read or written by others (mode %o); chmod 600 it.", file, mode)
