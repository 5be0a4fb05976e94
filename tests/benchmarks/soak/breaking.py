"""Everything that breaks while clients ask: engines, Redis, the log, descriptors."""

from collections.abc import Sequence

from benchmarks.soak.figures import Figures, Options
from benchmarks.soak.log_pipe import LogFaults
from benchmarks.soak.processes import Chaos, EngineProcess, GatewayProcess
from benchmarks.soak.redis_chaos import RedisChaos
from benchmarks.soak.scarcity import Scarcity
from support.redis_server import RedisServer


class Breaking:
    """Breaks what the options say, in one round of clients; `first` is its first request's number."""

    def __init__(
        self,
        options: Options,
        gateway: GatewayProcess,
        engines: Sequence[EngineProcess],
        redis: RedisServer | None,
        first: int,
    ) -> None:
        self._total = options.requests
        seed = options.seed + first
        self._engines = Chaos(engines, seed)
        self._redis = None if redis is None else RedisChaos(redis, seed)
        self._log = LogFaults(gateway.pipe, gateway.process) if options.log_faults else None
        self._scarcity = Scarcity(gateway.process.pid, gateway.descriptors, seed) if options.scarcity else None

    def step(self, done: int) -> None:
        """Do what is due after so many requests. To be called often."""
        self._engines.step()
        if self._redis is not None:
            self._redis.step()
        if self._log is not None:
            self._log.step(done / self._total)
        if self._scarcity is not None:
            self._scarcity.step()

    def end(self) -> None:
        """All is whole again."""
        for each in (self._engines, self._redis, self._log, self._scarcity):
            if each is not None:
                each.end()

    def note(self, figures: Figures) -> None:
        """Add what was done."""
        figures.kills += self._engines.kills
        figures.freezes += self._engines.freezes
        if self._redis is not None:
            known = figures.redis_faults
            figures.redis_faults = {name: known.get(name, 0) + count for name, count in self._redis.counts.items()}
        if self._scarcity is not None:
            figures.scarcities += self._scarcity.times
