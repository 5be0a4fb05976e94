"""The Redis that counts a soak's limits, and what becomes of it: frozen for moments and for seconds, and killed."""

import random
import time
from collections.abc import Iterator

import redis

from support.redis_server import RedisServer

BLINK, FREEZE, KILL = "blink", "freeze", "kill"
FAULTS = {BLINK: 16, FREEZE: 3, KILL: 1}
"""What happens, and how often. In a blink, which is shorter than the gateway's own patience, every admission of a
limited key waits: that is when clients leave amid it."""
SECONDS = {BLINK: (0.02, 0.2), FREEZE: (0.3, 2.0), KILL: (0.1, 1.5)}
PAUSE = (0.2, 1.2)


class RedisChaos:
    """Breaks a server at random moments, one way at a time. `step` is called often."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self._server = server
        self._dice = random.Random(seed)
        self._fault = ""
        self._due = time.monotonic() + PAUSE[1]
        self.counts = dict.fromkeys(FAULTS, 0)

    def step(self) -> None:
        """Do what is due."""
        if time.monotonic() < self._due:
            return
        if self._fault:
            self.end()
            self._due = time.monotonic() + self._dice.uniform(*PAUSE)
            return
        self._fault = self._dice.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
        self.counts[self._fault] += 1
        if self._fault == KILL:
            self._server.kill()
        else:
            self._server.freeze()
        self._due = time.monotonic() + self._dice.uniform(*SECONDS[self._fault])

    def end(self) -> None:
        """It answers again."""
        if self._fault == KILL:
            self._server.start()
        elif self._fault:
            self._server.thaw()
        self._fault = ""


def held(server: RedisServer) -> Iterator[str]:
    """What the server says is held against keys, in words; nothing where nobody asks."""
    with server.client() as client:
        for name in client.scan_iter("*"):
            if str(name).rpartition(":")[2] in ("leases", "streams") and (count := _members(client, str(name))):
                yield f"{count} in {name}"


def _members(client: "redis.Redis", name: str) -> int:
    return int(client.zcard(name))
