"""A trial of a new version of a tier: begun, promoted, rolled back by an administrator, or rolled back by the rule.

What is tried stands in family.json, so that it is the same after a restart and in every gateway that reads the file;
promoting writes the version's weights under the tier's name there.
"""

import logging
from functools import partial

from alphatier_models import Canary, Family, FamilyError
from alphatier_models.editing import promoted, with_canary
from alphatier_server.engines.fleet import Fleet
from alphatier_server.errors import EngineError
from alphatier_server.metrics.canary import counts, worse

log = logging.getLogger("alphatier")


async def begin(fleet: Fleet, name: str, canary: Canary) -> Family:
    """Try it from the next request on, or with another share. Raises as `Fleet.edit_family`."""
    return await fleet.edit_family(name, partial(with_canary, canary=canary))


async def promote(fleet: Fleet, name: str) -> Family:
    """Let the version take its tier's place. Raises as `Fleet.edit_family`; nothing has changed then."""
    return await fleet.edit_family(name, promoted)


async def roll_back(fleet: Fleet, name: str) -> Family:
    """Try it no more; where family.json cannot be changed, until it is read again. Raises UnknownEngine."""
    try:
        return await fleet.edit_family(name, partial(with_canary, canary=None))
    except (OSError, FamilyError, EngineError) as error:
        log.warning("family.json of %s still has its canary, as it cannot be changed: %s", name, error)
        return await fleet.edit_family(name, partial(with_canary, canary=None), write=False)


async def judge(fleet: Fleet) -> None:
    """Roll back what is worse beyond doubt, where the settings say so. To be called every now and then."""
    for family in [family for family in fleet.families.values() if family.canary is not None]:
        assert family.canary is not None
        reason = worse(counts(fleet.metrics, family), fleet.canary) if fleet.canary.roll_back else None
        if reason is not None:
            await roll_back(fleet, family.name)
            where = f"{family.name}:{family.canary.tier}"
            log.warning("the canary %s of %s was rolled back: %s", family.canary.version, where, reason)
