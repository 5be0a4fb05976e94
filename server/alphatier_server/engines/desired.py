"""Which engines the settings and the families ask for: compared with those that run, it says what must change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphatier_models import Family
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.keys import EngineKeys
from alphatier_server.engines.plan import installed_engine
from alphatier_server.engines.spec import EngineKind, EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import EngineSettings

Plan = Callable[..., list[EngineSpec]]
"""`engines.plan.plan_engines`, or a test's own."""


@dataclass(frozen=True)
class DesiredEngine:
    """One engine that is asked for: one by URL, or the `number`th replica of one to run."""

    key: tuple[Any, ...]
    """Engines of one key are the same engine; the weights are no part of it, as they may change under it."""
    settings: EngineSettings
    family: str | None = None
    spec: EngineSpec | None = None
    number: int = 1

    @property
    def name(self) -> str:
        """What the engine is called."""
        if self.spec is None:
            return self.settings.label()
        return self.spec.name if self.number == 1 else f"{self.spec.name}-{self.number}"


class DesiredEngines:
    """Plans engines; those by URL must have their keys."""

    def __init__(self, plan: Plan, work: Path, store: AdapterStore, keys: EngineKeys) -> None:
        self._plan_engines = plan
        self._work = work
        self._store = store
        self._keys = keys

    def all(
        self, engines: Iterable[EngineSettings], families: Mapping[str, Family], folders: Mapping[str, Path]
    ) -> list[DesiredEngine]:
        """Every engine that these settings ask for. Raises EngineError."""
        desired: list[DesiredEngine] = []
        for settings in engines:
            if settings.url is not None:
                self._keys.of(settings)
                desired.append(DesiredEngine(("url", settings.model_dump_json()), settings))
                continue
            for name, family in families.items():
                if settings.families is None or name in settings.families:
                    desired += self._to_run(settings, family, folders[name])
        _refuse_twice(desired)
        return desired

    def spec(self, desired: DesiredEngine, family: Family, folder: Path) -> EngineSpec | None:
        """The same engine for the family as it is in `folder`; None where that has no use for it."""
        specs = self._plan(desired.settings, family, folder)
        return next((spec for spec in specs if desired.spec is not None and spec.name == desired.spec.name), None)

    def _to_run(self, settings: EngineSettings, family: Family, folder: Path) -> list[DesiredEngine]:
        return [
            DesiredEngine(
                ("run", family.name, spec.name, spec.kind, settings.priority, *settings.arguments, number),
                settings,
                family.name,
                spec,
                number,
            )
            for spec in self._plan(settings, family, folder)
            for number in range(1, settings.replicas + 1)
        ]

    def _plan(self, settings: EngineSettings, family: Family, folder: Path) -> list[EngineSpec]:
        kind: EngineKind = installed_engine() if settings.kind == "auto" else settings.kind
        return self._plan_engines(
            family,
            folder,
            kind,
            work=self._work,
            arguments=settings.arguments,
            replicas=settings.replicas,
            store=self._store,
            engine_priority=settings.priority,
        )


def _refuse_twice(desired: Sequence[DesiredEngine]) -> None:
    names = [engine.name for engine in desired]
    for name in names:
        if names.count(name) > 1:
            raise EngineError(f"Two engines are called {name!r}; give one another name, or remove one of them.")
