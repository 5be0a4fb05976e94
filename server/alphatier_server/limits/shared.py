"""Where limits are counted for several worker processes of one machine: a file of fixed-size records in memory.

A record holds one key's two buckets, and for each worker a column with its running requests, streams and
reserved tokens; the sum of the columns is what the key has running. So a worker that died leaks nothing: whoever
started it calls `clear_worker`. A record is read and written under a POSIX lock on its bytes, which the kernel
drops with its holder. Exact: no worker caches anything.

The clock is `time.monotonic`, which all processes of a machine share; the file must not outlive a reboot.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from alphatier_server.errors import StoreFailed
from alphatier_server.limits.arithmetic import Account, Call, Outcome
from alphatier_server.limits.store import Reservation, Store

log = logging.getLogger("alphatier")

SLOTS = 16_384
LOCK_SECONDS = 1.0
"""Longest wait for a record; only a stopped process (SIGSTOP, a debugger) holds one for more than microseconds."""

_HEADER = struct.Struct("<II")
"""Records, and columns of each."""
_HEADER_BYTES = 64
_RECORD = struct.Struct("<16sdd")
_BUCKETS = struct.Struct("<dd")
_COLUMN = struct.Struct("<IIQ")
_EMPTY = bytes(16)


class SharedStore(Store):
    """One worker's view of the file that `create` made.

    `worker` is this process's column; no two living processes may have the same one.
    """

    def __init__(self, path: Path, worker: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._file, 0)
        self._slots, workers = _HEADER.unpack_from(self._map)
        self._columns = struct.Struct("<" + _COLUMN.format[1:] * workers)
        self._size = _RECORD.size + self._columns.size
        self._own = _RECORD.size + worker * _COLUMN.size
        """Where this worker's column is in a record."""
        self._places: dict[str, tuple[int, bytes]] = {}
        self._stuck = False

    @staticmethod
    def create(path: Path, workers: int, slots: int = SLOTS) -> None:
        """Write an empty file (sparse; a used key takes `32 + 16 * workers` bytes of it)."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _HEADER_BYTES + slots * (_RECORD.size + workers * _COLUMN.size))
            os.pwrite(descriptor, _HEADER.pack(slots, workers), 0)
        finally:
            os.close(descriptor)

    async def take(self, call: Call) -> Reservation | Outcome:
        """See Store. Does not suspend."""
        offset = self._acquire(call.key)
        try:
            account = self._read(offset)
            outcome = account.take(call, self._clock())
            if outcome.refused is not None:
                return outcome
            self._write(offset, account, call.requests, int(call.streamed), call.tokens)
        finally:
            self._unlock(offset)
        return Reservation(self._settle, call, outcome, offset)

    def _settle(self, reservation: Reservation, used: int) -> None:
        call = reservation.call
        try:
            offset = self._acquire(call.key)
        except StoreFailed:  # the key's record went to another key, so nothing of it runs
            return
        try:
            if offset == reservation.tag and self._column(offset)[0]:
                account = self._read(offset)
                account.settle(call, used, self._clock())
                self._write(offset, account, -call.requests, -int(call.streamed), -call.tokens)
            # Else this worker was taken for dead, and its places are free already.
        finally:
            self._unlock(offset)

    def clear_worker(self, worker: int) -> None:
        """Free every place that a worker held which has ended."""
        for offset in self._offsets():
            if self._digest(offset) != _EMPTY:
                self._lock(offset)
                _COLUMN.pack_into(self._map, offset + _RECORD.size + worker * _COLUMN.size, 0, 0, 0)
                self._unlock(offset)

    def _read(self, offset: int) -> Account:
        _, requests_full_at, tokens_full_at = _RECORD.unpack_from(self._map, offset)
        columns = self._columns.unpack_from(self._map, offset + _RECORD.size)
        return Account(requests_full_at, tokens_full_at, sum(columns[::3]), sum(columns[1::3]), sum(columns[2::3]))

    def _write(self, offset: int, account: Account, in_flight: int, streams: int, reserved: int) -> None:
        # Buckets first: a worker killed between the two writes has spent a request but holds no place.
        _BUCKETS.pack_into(self._map, offset + 16, account.requests_full_at, account.tokens_full_at)
        had = self._column(offset)
        has = (max(0, before + more) for before, more in zip(had, (in_flight, streams, reserved), strict=True))
        _COLUMN.pack_into(self._map, offset + self._own, *has)

    def _column(self, offset: int) -> tuple[int, ...]:
        """This worker's requests, streams and tokens."""
        return _COLUMN.unpack_from(self._map, offset + self._own)

    def _digest(self, offset: int) -> bytes:
        return self._map[offset : offset + 16]

    def _offsets(self, first: int = 0) -> Iterator[int]:
        """Where all records are, beginning with that slot."""
        for step in range(self._slots):
            yield _HEADER_BYTES + (first + step) % self._slots * self._size

    def _acquire(self, name: str) -> int:
        """Find the key's record, or take one for a new key, and lock it."""
        for _ in range(8):
            offset, digest = self._places.get(name) or self._enter(name)
            self._lock(offset)
            if self._digest(offset) == digest:
                return offset
            self._unlock(offset)  # another worker gave the idle record to another key
            del self._places[name]
        raise StoreFailed("The records of limits change hands too fast; there are too many keys.")

    def _enter(self, name: str) -> tuple[int, bytes]:
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        self._lock(0)
        try:
            place = self._places[name] = self._find(digest), digest
        finally:
            self._unlock(0)
        return place

    def _find(self, digest: bytes) -> int:
        for offset in self._offsets(int.from_bytes(digest[:4], "little")):
            held = self._digest(offset)
            if held == _EMPTY:
                self._map[offset : offset + 16] = digest
            if held in (digest, _EMPTY):
                return offset
        return self._recycle(digest)

    def _recycle(self, digest: bytes) -> int:
        """Give a record whose key has nothing running and full buckets to another key: nothing is lost with it."""
        now = self._clock()
        for offset in self._offsets():
            self._lock(offset)
            try:
                account = self._read(offset)
                if account.in_flight == 0 and max(account.requests_full_at, account.tokens_full_at) <= now:
                    self._map[offset : offset + 16] = digest
                    return offset
            finally:
                self._unlock(offset)
        raise StoreFailed(f"More than {self._slots} keys are in use.")

    def _lock(self, offset: int) -> None:
        """Lock a record. A holder that is stopped must not stop the gateway: after a second, go on without."""
        deadline = 0.0
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 16, offset)
                return
            except OSError:
                deadline = deadline or time.monotonic() + LOCK_SECONDS
            if time.monotonic() > deadline:
                if not self._stuck:
                    self._stuck = True
                    log.warning("a worker holds a limit's record for over %g s; counting on without it", LOCK_SECONDS)
                return
            os.sched_yield()

    def _unlock(self, offset: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 16, offset)
