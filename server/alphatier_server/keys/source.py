"""The key file and the variables as they change: read at start, then again whenever the file differs.

A file that cannot be read or understood changes nothing: the keys that were in force stay so, and the log says it
once. So a bad edit locks nobody out, and a file that is written slowly is read again when it is whole.
"""

import asyncio
import logging
import stat
from collections.abc import Mapping
from pathlib import Path

from alphatier_server.errors import KeyFileError
from alphatier_server.keys.ring import NO_LIMITS, KeyRing, load_keys
from alphatier_server.settings.access import KeyLimits
from alphatier_server.settings.watch import FileWatch

log = logging.getLogger("alphatier")


class KeySource:
    """Keys of a file and of the environment; `ring` holds those in force. Raises KeyFileError when made."""

    def __init__(self, file: Path | None, environment: Mapping[str, str], defaults: KeyLimits = NO_LIMITS) -> None:
        self._file = file
        self._environment = environment
        self._defaults = defaults
        self._watch = FileWatch(*([] if file is None else [file]))
        self.ring = self._read()

    async def refresh(self) -> bool:
        """Read the file again if it has changed; whether other keys are in force now. Does not raise."""
        if not self._watch.changed():
            return False
        try:
            self.ring = await asyncio.to_thread(self._read)
        except KeyFileError as error:
            log.error("%s The keys in force stay as they were.", error)
            return False
        log.warning("%s was read again: %d keys", self._file, len(self.ring.names))
        return True

    def _read(self) -> KeyRing:
        ring = KeyRing(load_keys(self._file, self._environment), self._defaults)
        mode = stat.S_IMODE(self._file.stat().st_mode) if self._file is not None and self._file.exists() else 0
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            log.warning("%s can be read or written by others (mode %o); chmod 600 it.", self._file, mode)
        return ring
