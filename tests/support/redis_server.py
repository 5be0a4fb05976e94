"""A real redis-server on a Unix socket, which tests stop and start again."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from support.processes import require, until


@dataclass
class RedisServer:
    """One server; its data is gone when it ends, as it is with Redis' defaults after a crash."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [require("redis-server"), *options, "--dir", str(self.folder)], stdout=log, stderr=log
            )
        until(self._answers, 20, log=self.folder / "redis.log")

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def freeze(self) -> None:
        """It holds its connections and says nothing, as a machine does whose network is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def held(self) -> dict[str, int]:
        """What keys hold now: leases, those that are streams, and tokens that are reserved."""
        with self.client() as client:
            found = {
                what: sum(int(client.zcard(key)) for key in client.keys(f"*:{what}"))
                for what in ("leases", "streams")
            }
            hashes = [key for key in client.keys("*") if client.type(key) == "hash"]
            return found | {"reserved": sum(int(client.hget(key, "reserved") or 0) for key in hashes)}

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.thaw()
        server.kill()
