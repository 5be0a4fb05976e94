"""What every engine has in common, whether it is run here or found by URL."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alphatier_models import Family
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.api import EngineKeys
from alphatier_server.engines.devices import Devices
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.upstream import UpstreamClient

Report = Callable[[str], None]
"""Takes a line for the operator."""
Origin = Literal["config", "admin"]
"""Who asked for an engine."""
Key = tuple[Any, ...]
"""Engines of one key are the same engine; the weights are no part of it, as they may change under it."""
Busy = Callable[[str, str | None], int]
"""Requests that all processes have open on a replica (first argument), or on one of its models (second)."""


@dataclass(frozen=True)
class EngineContext:
    """What engines work with."""

    families: Mapping[str, Family]
    """Those of this moment, as `folders` are."""
    folders: Mapping[str, Path]
    pool: Pool
    metrics: Metrics
    client: UpstreamClient
    report: Report
    busy: Busy
    logs: Path
    adapters: AdapterStore
    keys: EngineKeys
    devices: Devices
    alphas: AlphaSettings = field(default_factory=AlphaSettings)


@dataclass(frozen=True)
class FamilyChange:
    """A family that comes (`old` is None), changes, or goes (`new` is None)."""

    name: str
    old: Family | None
    new: Family | None
    folder: Path

    @property
    def difference(self) -> str:
        """The tiers that a changed family has beside those of before, and has no more, in words for the operator."""
        if self.old is None or self.new is None:
            return ""
        before, now = ([tier.name for tier in family.tiers] for family in (self.old, self.new))
        coming = [f"+{name}" for name in now if name not in before]
        going = [f"-{name}" for name in before if name not in now]
        return f": {' '.join(coming + going)}" if coming or going else ""


class Engine(ABC):
    """One engine. `run` works until it is cancelled; the fleet decides when it comes and goes."""

    def __init__(self, name: str, key: Key = ()) -> None:
        self.name = name
        self.key = key
        self.url = ""
        """Where it is, for the operator; empty while no process of it runs."""
        self.origin: Origin = "config"
        self.draining = False
        self.removed = False
        self.held = False
        """Whether it gets no requests yet."""
        self.error: str | None = None
        """Why it was given up."""
        self.settled = asyncio.Event()
        """Set once it could answer for the first time, or was given up."""

    def takes_adapters(self, family: str) -> bool:
        """Whether it can load adapters of the family while it runs."""
        return False

    @abstractmethod
    def replicas(self) -> list[str]:
        """The names of its replicas in the pool."""

    @abstractmethod
    async def run(self) -> None:
        """Keep the pool up to date about it. Raises EngineError when it has to be given up."""

    @abstractmethod
    async def prepare(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        """Get what the new family needs, so that `commit` can switch at once. Raises EngineError; nothing changed.

        `spec` is the plan of an engine that runs here for the new family.
        """

    @abstractmethod
    def commit(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        """Switch to the new family, for requests from now on."""

    @abstractmethod
    def unused(self) -> list[tuple[str, str]]:
        """Replica and model name of what it has loaded and no tier needs."""

    @abstractmethod
    async def unload(self, model: str) -> None:
        """Let go of a model that no request uses."""
