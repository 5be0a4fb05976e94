"""Which engines the settings and the families ask for: compared with those that run, it says what must change."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.engine import Engine, FamilyChange, Key
from alphatier_server.engines.keys import EngineKeys
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.plan import installed_engine
from alphatier_server.engines.remote import RemoteEngine
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


def affected(
    engines: Iterable[Engine], change: FamilyChange, coming: dict[Key, DesiredEngine]
) -> tuple[dict[Engine, EngineSpec | None], list[Engine]]:
    """Engines that take the change over as they are (by their plan, where they run here), and those that go.

    Takes out of `coming`, what runs here for the new family, those that need not come.
    """
    staying: dict[Engine, EngineSpec | None] = {}
    going: list[Engine] = []
    for engine in engines:
        if engine.draining or engine.error is not None:
            continue
        if isinstance(engine, RemoteEngine):
            staying[engine] = None
        elif isinstance(engine, ManagedEngine) and engine.spec.family == change.name:
            spec = coming[engine.key].spec if engine.key in coming else None
            if spec is not None and spec.shape == engine.spec.shape:
                staying[engine] = spec
                del coming[engine.key]
            else:
                going.append(engine)
    return staying, going
