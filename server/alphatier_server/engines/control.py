"""What an administrator can do to engines and families while the gateway runs: the actions behind /admin.

It runs where the fleet is, which may be another process than the one that was asked (`routes.admin`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alphatier_models import Canary, EditError, Family, FamilyError
from alphatier_server.engines.canary import begin, promote, roll_back
from alphatier_server.engines.fleet import Fleet
from alphatier_server.errors import Conflict, EngineError, GatewayError, InvalidRequest, NotFound, UnknownEngine
from alphatier_server.metrics.canary import canary_report
from alphatier_server.metrics.evidence import shadow_report
from alphatier_server.settings.engines import EngineSettings

PATIENCE_SECONDS = 30.0
"""How long an answer waits for a family to be loaded; engines that must be started take longer."""

Answer = tuple[int, Any]
"""Status and JSON document."""
Administer = Callable[[str, dict[str, Any]], Awaitable[Answer]]
"""Does what an action's name and its arguments say. Raises nothing that is the caller's fault."""


async def administer(fleet: Fleet, action: str, arguments: dict[str, Any]) -> Answer:
    """Do it. What is the caller's fault comes back as status and error document."""
    refusal: GatewayError
    try:
        return await _done(fleet, action, arguments)
    except GatewayError as error:
        refusal = error
    except ValidationError as error:
        refusal = invalid_value(error.errors())
    except UnknownEngine as error:
        refusal = NotFound(f"There is no {error.args[0]!r}; GET /admin lists what there is.", code="not_found")
    except FamilyError as error:
        refusal = InvalidRequest(str(error), code="invalid_family", param="path")
    except EditError as error:
        refusal = InvalidRequest(str(error), code="invalid_canary")
    except OSError as error:
        words = f"family.json cannot be written: {error.strerror}. Edit it where it comes from, and load it again."
        refusal = Conflict(words, code="family_not_written")
    except EngineError as error:
        refusal = Conflict(str(error), code="engine_error")
    return refusal.status, refusal.document()


def invalid_value(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """Pydantic's errors (the first of them) in OpenAI's words."""
    field = ".".join(str(part) for part in errors[0]["loc"] if part != "body")
    message = errors[0]["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{field or 'the body'}: {message}", code="invalid_value", param=field or None)


async def _done(fleet: Fleet, action: str, arguments: dict[str, Any]) -> Answer:
    name, path = arguments.get("name", ""), arguments.get("path", "")
    match action:
        case "list_engines":
            return 200, {"object": "list", "data": fleet.status()}
        case "add_engine":
            settings = EngineSettings.model_validate(arguments["settings"])
            return 201, _engine(fleet, await fleet.add(settings, api_key=arguments["api_key"]))
        case "drain_engine":
            return 202, _engine(fleet, fleet.drain(name))
        case "remove_engine":
            return 200, {"name": await fleet.remove(name), "state": "removed"}
        case "list_families":
            families = [_family(fleet, family) for family in fleet.families.values()]
            return 200, {"object": "list", "data": families, "loading": list(fleet.loading)}
        case "load_family":
            task = asyncio.create_task(fleet.load_family(Path(path)))
            finished, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
            if finished:
                return 200, _family(fleet, task.result())
            fleet.registry.job(task)
            return 202, {"path": path, "state": "loading"}
        case "load_alpha":
            tier = await fleet.load_alpha(name, arguments["alpha"])
            return 200, {"tier": tier.name if tier is not None else None}
        case "freeze_brownout":
            return 200, {"family": name, "level": fleet.freeze(name, arguments["level"])}
        case "remove_family":
            await fleet.remove_family(name)
            return 200, {"name": name, "state": "removed"}
        case "list_canaries":
            tried = [family for family in fleet.families.values() if family.canary is not None]
            return 200, {"object": "list", "data": [_canary(fleet, family) for family in tried]}
        case "begin_canary":
            return 200, _canary(fleet, await begin(fleet, name, Canary.model_validate(arguments["canary"])))
        case "promote_canary":
            return 200, _family(fleet, await promote(fleet, name))
        case "roll_back_canary":
            return 200, _family(fleet, await roll_back(fleet, name))
        case "show_shadow":
            return 200, {"object": "list", "data": shadow_report(fleet.metrics)}
    raise KeyError(action)


def _engine(fleet: Fleet, name: str) -> dict[str, Any]:
    return next((engine for engine in fleet.status() if engine["name"] == name), {"name": name, "state": "removed"})


def _canary(fleet: Fleet, family: Family) -> dict[str, Any]:
    assert family.canary is not None
    served = any(
        replica.up and replica.family == family.name and family.canary.version in replica.models
        for replica in fleet.pool.replicas
    )
    return {**canary_report(fleet.metrics, family, fleet.canary), "served": served}


def _family(fleet: Fleet, family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "path": str(fleet.folders.get(family.name, "")),
        "default_tier": family.default_tier,
        "canary": None if family.canary is None else family.canary.model_dump(),
        "tiers": [tier.model_dump(include={"name", "layout", "alpha", "sha256"}) for tier in family.tiers],
    }
