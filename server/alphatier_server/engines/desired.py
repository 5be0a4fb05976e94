"""Which engines the settings and the families ask for: compared with those that run, it says what must change."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.api import checked
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange, Key
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.plan import installed_engine
from alphatier_server.engines.remote import RemoteEngine
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import EngineSettings

Plan = Callable[..., list[EngineSpec]]
"""`engines.plan.plan_engines`, or a test's own."""


@dataclass(frozen=True)
class EngineMaker:
    """Makes the engines that are asked for, and starts none. Raises EngineError, also where a key is missing."""

    context: EngineContext
    plan: Plan

    def all(self, engines: Iterable[EngineSettings]) -> list[Engine]:
        """All that these settings ask for."""
        made: list[Engine] = []
        for settings in engines:
            if settings.url is not None:
                made.append(self.by_url(settings))
            else:
                for name, family in self.context.families.items():
                    made += self._to_run(settings, family, self.context.folders[name])
        _check_names(made)
        return made

    def by_url(self, settings: EngineSettings, api_key: str | None = None) -> RemoteEngine:
        """One that somebody else runs, with a key of its own or the one that the settings say."""
        key = self.context.keys.of(settings) if api_key is None else checked(api_key, "api_key")
        return RemoteEngine(settings, self.context, key)

    def for_family(self, engines: Iterable[EngineSettings], family: Family, folder: Path) -> list[ManagedEngine]:
        """Those to run for this family alone, which need not be among the gateway's."""
        managed = (settings for settings in engines if settings.url is None)
        made = [engine for settings in managed for engine in self._to_run(settings, family, folder)]
        _check_names(made)
        return made

    def _to_run(self, settings: EngineSettings, family: Family, folder: Path) -> Iterator[ManagedEngine]:
        if settings.families is not None and family.name not in settings.families:
            return
        specs = self.plan(
            family,
            folder,
            installed_engine() if settings.kind == "auto" else settings.kind,
            work=self.context.logs / "work",
            arguments=settings.arguments,
            replicas=settings.replicas,
            store=self.context.adapters,
            exported=self.context.alphas.keep,
            engine_priority=settings.priority,
        )
        for spec in specs:
            for number in range(1, settings.replicas + 1):
                name = spec.name if number == 1 else f"{spec.name}-{number}"
                key = ("run", family.name, spec.name, spec.kind, settings.priority, *settings.arguments, number)
                yield ManagedEngine(spec, self.context, name, key)


def affected(
    engines: Iterable[Engine], change: FamilyChange, coming: dict[Key, ManagedEngine]
) -> tuple[dict[Engine, EngineSpec | None], list[Engine]]:
    """Engines that take the change over as they are (by their plan, where they run here), and those that go.

    Takes out of `coming`, what is to run here for the new family, those that need not come.
    """
    staying: dict[Engine, EngineSpec | None] = {}
    going: list[Engine] = []
    for engine in engines:
        if engine.draining or engine.error is not None:
            continue
        if isinstance(engine, RemoteEngine):
            staying[engine] = None
        elif isinstance(engine, ManagedEngine) and engine.spec.family == change.name:
            planned = coming.get(engine.key)
            if planned is not None and planned.spec.shape == engine.spec.shape:
                staying[engine] = coming.pop(engine.key).spec
            else:
                going.append(engine)
    return staying, going


def _check_names(engines: Sequence[Engine]) -> None:
    names = [engine.name for engine in engines]
    for name in names:
        if names.count(name) > 1:
            raise EngineError(f"Two engines are called {name!r}; give one another name, or remove one of them.")
