"""The admin API: engines and families are listed, added, drained and removed while the gateway runs.

`administer` does the work where the fleet is; `admin_router` is the HTTP side, which may be in another
process. Who holds an admin key decides which URLs the gateway talks to and which folders it reads, private
networks included: that key is as good as a login on the gateway's machine.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from alphatier_models import Family, FamilyError
from alphatier_server.engines.fleet import Fleet, UnknownEngine
from alphatier_server.errors import (
    Conflict,
    EngineError,
    GatewayError,
    InvalidRequest,
    NotFound,
)
from alphatier_server.settings.engines import EngineSettings

PATIENCE_SECONDS = 30.0
"""How long an answer waits for a family to be loaded; engines that must be started take longer."""

Answer = tuple[int, Any]
"""Status and JSON document."""
Administer = Callable[[str, dict[str, Any]], Awaitable[Answer]]
"""Does what an action's name and its arguments say. Raises nothing that is the caller's fault."""


class NewEngine(BaseModel):
    """An engine that runs already."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(max_length=2048, description="http(s)://HOST:PORT", examples=["http://gpu-2:8001"])
    name: str | None = Field(None, description="What it is called; else its host and port.")
    api_key: SecretStr | None = Field(None, description="Its bearer token; it is kept in memory and never shown.")
    families: list[str] | None = Field(None, description="The families that it serves; all where none are named.")
    load_adapters: bool = Field(False, description="Have it load and unload adapters while it runs.")


class FamilyFolder(BaseModel):
    """Where a family is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str = Field(
        min_length=1,
        max_length=4096,
        description="Folder with a family.json, on the gateway's machine.",
        examples=["/srv/families/tiny"],
    )


async def administer(fleet: Fleet, action: str, arguments: dict[str, Any]) -> Answer:
    """Do it. What is the caller's fault comes back as status and error document."""
    try:
        return await _ACTIONS[action](fleet, arguments)
    except GatewayError as error:
        return error.status, error.document()
    except UnknownEngine as error:
        missing = NotFound(f"There is no {error.args[0]!r}; GET /admin lists what there is.", code="not_found")
        return missing.status, missing.document()
    except FamilyError as error:
        return 400, InvalidRequest(str(error), code="invalid_family", param="path").document()
    except EngineError as error:
        return 409, Conflict(str(error), code="engine_error").document()


def admin_router(do: Administer) -> APIRouter:
    """`/admin`, for holders of an admin key (`middleware.auth` sees to that)."""
    errors: dict[int | str, dict[str, Any]] = {"4XX": {"description": "Refused, in OpenAI's error shape"}}
    router = APIRouter(prefix="/admin", tags=["admin"], responses=errors)

    async def done(action: str, **arguments: Any) -> JSONResponse:
        status, document = await do(action, arguments)
        return JSONResponse(document, status)

    @router.get("/engines", summary="Every engine, its state and its replicas")
    async def engines() -> JSONResponse:
        return await done("list_engines")

    @router.post("/engines", status_code=201, summary="Add an engine that runs already")
    async def add(engine: NewEngine) -> JSONResponse:
        key = engine.api_key.get_secret_value() if engine.api_key is not None else None
        return await done("add_engine", settings=engine.model_dump(exclude={"api_key"}), api_key=key)

    @router.post(
        "/engines/{name:path}/drain", status_code=202, summary="No new requests; removed when its last one has ended"
    )
    async def drain(name: str) -> JSONResponse:
        return await done("drain_engine", name=name)

    @router.delete("/engines/{name:path}", summary="Remove an engine at once; drain it first to lose nothing")
    async def remove(name: str) -> JSONResponse:
        return await done("remove_engine", name=name)

    @router.get("/families", summary="Every family, its folder and its tiers")
    async def families() -> JSONResponse:
        return await done("list_families")

    @router.put("/families", summary="The same as POST")
    @router.post(
        "/families",
        summary="Add the family in a folder, or take over what its family.json says now",
        responses={202: {"description": "Engines are being started for it; GET /admin/families tells when"}},
    )
    async def load(folder: FamilyFolder) -> JSONResponse:
        return await done("load_family", path=folder.path)

    @router.delete("/families/{name}", summary="Serve the family no more; its requests under way end in peace")
    async def remove_family(name: str) -> JSONResponse:
        return await done("remove_family", name=name)

    return router


def validation_error(error: Any) -> InvalidRequest:
    """FastAPI's RequestValidationError in OpenAI's words."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return InvalidRequest(f"{place or 'the body'}: {first['msg']}", code="invalid_value", param=place or None)


# --- what each action does --------------------------------------------------------------------------


async def _list_engines(fleet: Fleet, _arguments: dict[str, Any]) -> Answer:
    return 200, {"object": "list", "data": fleet.status()}


async def _add_engine(fleet: Fleet, arguments: dict[str, Any]) -> Answer:
    try:
        settings = EngineSettings.model_validate(arguments["settings"])
    except ValidationError as error:
        raise validation_error(error) from None
    name = await fleet.add(settings, api_key=arguments.get("api_key"))
    return 201, _engine(fleet, name)


async def _drain_engine(fleet: Fleet, arguments: dict[str, Any]) -> Answer:
    name = fleet.drain(arguments["name"])
    return 202, _engine(fleet, name)


async def _remove_engine(fleet: Fleet, arguments: dict[str, Any]) -> Answer:
    name = await fleet.remove(arguments["name"])
    return 200, {"name": name, "state": "removed"}


async def _list_families(fleet: Fleet, _arguments: dict[str, Any]) -> Answer:
    data = [_family(fleet, family) for family in fleet.families.values()]
    return 200, {"object": "list", "data": data, "loading": fleet.loading()}


async def _load_family(fleet: Fleet, arguments: dict[str, Any]) -> Answer:
    task = asyncio.ensure_future(fleet.load_family(Path(arguments["path"])))
    finished, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    if not finished:
        fleet.follow(task)
        return 202, {"path": arguments["path"], "state": "loading"}
    return 200, _family(fleet, task.result())


async def _remove_family(fleet: Fleet, arguments: dict[str, Any]) -> Answer:
    await fleet.remove_family(arguments["name"])
    return 200, {"name": arguments["name"], "state": "removed"}


def _engine(fleet: Fleet, name: str) -> dict[str, Any]:
    return next((engine for engine in fleet.status() if engine["name"] == name), {"name": name, "state": "removed"})


def _family(fleet: Fleet, family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "path": str(fleet.folders.get(family.name, "")),
        "default_tier": family.default_tier,
        "tiers": [tier.model_dump(include={"name", "layout", "alpha", "sha256"}) for tier in family.tiers],
    }


_ACTIONS: dict[str, Callable[[Fleet, dict[str, Any]], Awaitable[Answer]]] = {
    "list_engines": _list_engines,
    "add_engine": _add_engine,
    "drain_engine": _drain_engine,
    "remove_engine": _remove_engine,
    "list_families": _list_families,
    "load_family": _load_family,
    "remove_family": _remove_family,
}
