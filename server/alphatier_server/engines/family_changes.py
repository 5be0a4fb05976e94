"""Who is concerned when a family comes, changes or goes.

An engine that can take the new family over as it is (adapters come and go) stays; one that cannot is
replaced by a new one, which gets no requests before the switch, and drains after it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alphatier_server.engines.desired import DesiredEngine
from alphatier_server.engines.engine import Engine, FamilyChange
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.remote import RemoteEngine
from alphatier_server.engines.spec import EngineSpec


@dataclass
class Affected:
    """Engines that take the change over as they are, engines that must go, and engines that must come."""

    staying: list[tuple[Engine, EngineSpec | None]] = field(default_factory=list)
    """With the plan of each that runs here."""
    going: list[Engine] = field(default_factory=list)
    coming: list[DesiredEngine] = field(default_factory=list)


def affected(engines: Iterable[Engine], change: FamilyChange, desired: Sequence[DesiredEngine]) -> Affected:
    """What the change does to those that run; `desired` are the engines that run here for the new family."""
    wanted = {one.key: one for one in desired}
    found = Affected()
    for engine in engines:
        if engine.draining or engine.error is not None:
            continue
        if isinstance(engine, RemoteEngine):
            found.staying.append((engine, None))
        elif isinstance(engine, ManagedEngine) and engine.spec.family == change.name:
            want = wanted.get(engine.key)
            if want is not None and want.spec is not None and want.spec.shape == engine.spec.shape:
                found.staying.append((engine, want.spec))
                del wanted[engine.key]
            else:
                found.going.append(engine)
    found.coming = list(wanted.values())
    return found


def verb(change: FamilyChange) -> str:
    """What happens to the family, for the operator."""
    return "removed" if change.new is None else "added" if change.old is None else "changed"
