"""Which engines the settings and the families ask for: compared with those that run, it says what must change."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.engine import Key
from alphatier_server.engines.keys import EngineKeys
from alphatier_server.engines.plan import installed_engine
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import EngineSettings

Plan = Callable[..., list[EngineSpec]]
"""`engines.plan.plan_engines`, or a test's own."""


@dataclass(frozen=True)
class DesiredEngine:
    """One engine that is asked for: one by URL, or one of the replicas of one to run."""

    name: str
    key: Key
    settings: EngineSettings
    spec: EngineSpec | None = None


@dataclass(frozen=True)
class DesiredEngines:
    """Plans engines; those by URL must have their keys. Raises EngineError."""

    plan: Plan
    work: Path
    """A folder for files that engines need."""
    store: AdapterStore
    keys: EngineKeys

    def all(
        self, engines: Iterable[EngineSettings], families: Mapping[str, Family], folders: Mapping[str, Path]
    ) -> list[DesiredEngine]:
        desired: list[DesiredEngine] = []
        for settings in engines:
            if settings.url is not None:
                self.keys.of(settings)
                desired.append(DesiredEngine(settings.label(), ("url", settings.model_dump_json()), settings))
                continue
            for name, family in families.items():
                if settings.families is None or name in settings.families:
                    desired += self._to_run(settings, family, folders[name])
        names = [engine.name for engine in desired]
        for name in names:
            if names.count(name) > 1:
                raise EngineError(f"Two engines are called {name!r}; give one another name, or remove one of them.")
        return desired

    def _to_run(self, settings: EngineSettings, family: Family, folder: Path) -> Iterator[DesiredEngine]:
        specs = self.plan(
            family,
            folder,
            installed_engine() if settings.kind == "auto" else settings.kind,
            work=self.work,
            arguments=settings.arguments,
            replicas=settings.replicas,
            store=self.store,
            engine_priority=settings.priority,
        )
        for spec in specs:
            for number in range(1, settings.replicas + 1):
                name = spec.name if number == 1 else f"{spec.name}-{number}"
                key = ("run", family.name, spec.name, spec.kind, settings.priority, *settings.arguments, number)
                yield DesiredEngine(name, key, settings, spec)
