"""/admin: engines and families are listed, added, drained and removed while the gateway runs.

This is the HTTP side; `engines.control` does it, perhaps in another process. Who holds an admin key decides which
URLs the gateway talks to and which folders it reads, private networks included: that key is as good as a login on the
gateway's machine. So every change leaves a line that says who made it.
"""

import re
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from alphatier_server.engines.control import Administer
from alphatier_server.settings.engines import ENGINE_KEY

Audit = Callable[[dict[str, Any]], None]
"""Keeps a line: event, admin (the key's name), client (address), action, target, status, error (its code, if any)."""


class NewEngine(BaseModel):
    """An engine that runs already."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(max_length=2048, description="http(s)://HOST:PORT", examples=["http://gpu-2:8001"])
    name: str | None = Field(None, description="What it is called; else its host and port.")
    api_key: SecretStr | None = Field(None, description="Its bearer token; it is kept in memory and never shown.")
    families: list[str] | None = Field(None, description="The families that it serves; all where none are named.")
    load_adapters: bool = Field(False, description="Have it load and unload adapters while it runs.")
    priority: bool = Field(False, description="It was started with `--scheduling-policy priority`.")

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and ENGINE_KEY.fullmatch(key.get_secret_value()) is None:
            raise ValueError("is not one word of visible ASCII; no HTTP header can hold it")
        return key


class FamilyFolder(BaseModel):
    """Where a family is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str = Field(
        min_length=1,
        max_length=4096,
        description="Folder with a family.json, on the gateway's machine.",
        examples=["/srv/families/tiny"],
    )


class NewVersion(BaseModel):
    """A new version of a tier that is to be tried."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tier: str = Field(max_length=63, description="The tier.", examples=["alpha-0.4"])
    version: str = Field(max_length=63, description="The tier of the same family that may replace it.")
    share: float = Field(gt=0, le=1, description="Share of the tier's requests, by conversation.", examples=[0.05])


class FrozenLevel(BaseModel):
    """How far open choices slide, whatever the load."""

    model_config = ConfigDict(extra="forbid")

    level: float | None = Field(ge=0, le=1, description="From 0, none, to 1, all get the tersest tier.")


def admin_router(do: Administer, *, audit: Audit) -> APIRouter:
    """`/admin`, for holders of an admin key: `middleware.auth` sees to that, and puts its name into the state."""
    errors: dict[int | str, dict[str, Any]] = {"4XX": {"description": "Refused, in OpenAI's error shape"}}
    router = APIRouter(prefix="/admin", tags=["admin"], responses=errors)

    async def show(action: str) -> JSONResponse:
        status, document = await do(action, {})
        return JSONResponse(document, status)

    async def change(request: Request, action: str, target: str, **arguments: Any) -> JSONResponse:
        """Have something done and say who wanted it, whatever comes of it."""
        line = {
            "event": "admin",
            "admin": getattr(request.state, "admin", None),
            "client": request.client.host if request.client is not None else None,
            "action": action,
            "target": target,
            "status": 500,
        }
        try:
            status, document = await do(action, arguments)
            line["status"] = status
            if status >= 400:
                line["error"] = document["error"]["code"]
            return JSONResponse(document, status)
        finally:
            audit(line)

    @router.get("/engines", summary="Every engine, its state and its replicas")
    async def engines() -> JSONResponse:
        return await show("list_engines")

    @router.post("/engines", status_code=201, summary="Add an engine that runs already")
    async def add(engine: NewEngine, request: Request) -> JSONResponse:
        key = engine.api_key.get_secret_value() if engine.api_key is not None else None
        settings = engine.model_dump(exclude={"api_key"})
        return await change(request, "add_engine", _without_password(engine.url), settings=settings, api_key=key)

    @router.post(
        "/engines/{name:path}/drain", status_code=202, summary="No new requests; removed when its last one has ended"
    )
    async def drain(name: str, request: Request) -> JSONResponse:
        return await change(request, "drain_engine", name, name=name)

    @router.delete("/engines/{name:path}", summary="Remove an engine at once; drain it first to lose nothing")
    async def remove(name: str, request: Request) -> JSONResponse:
        return await change(request, "remove_engine", name, name=name)

    @router.get("/shadow", summary="What comparisons with the reference tier have shown, with 95 % intervals")
    async def shadow() -> JSONResponse:
        return await show("show_shadow")

    @router.get("/families", summary="Every family, its folder and its tiers")
    async def families() -> JSONResponse:
        return await show("list_families")

    @router.put("/families", summary="The same as POST")
    @router.post(
        "/families",
        summary="Add the family in a folder, or take over what its family.json says now",
        responses={202: {"description": "Engines are being started for it; GET /admin/families tells when"}},
    )
    async def load(folder: FamilyFolder, request: Request) -> JSONResponse:
        return await change(request, "load_family", folder.path, path=folder.path)

    @router.get("/canary", summary="New versions of tiers that are tried, beside the old ones, with 95 % intervals")
    async def canaries() -> JSONResponse:
        return await show("list_canaries")

    @router.put("/families/{name}/canary", summary="Try a new version of a tier, or change its share")
    async def begin(name: str, version: NewVersion, request: Request) -> JSONResponse:
        target = f"{name}:{version.tier}"
        return await change(request, "begin_canary", target, name=name, canary=version.model_dump())

    @router.post("/families/{name}/canary/promote", summary="Let the new version take its tier's place")
    async def promote(name: str, request: Request) -> JSONResponse:
        return await change(request, "promote_canary", name, name=name)

    @router.delete("/families/{name}/canary", summary="Roll back: try the new version no more")
    async def roll_back(name: str, request: Request) -> JSONResponse:
        return await change(request, "roll_back_canary", name, name=name)

    @router.put("/families/{name}/brownout", summary="Hold a level of brownout, in all workers; null: by the load")
    async def freeze(name: str, frozen: FrozenLevel, request: Request) -> JSONResponse:
        return await change(request, "freeze_brownout", name, name=name, level=frozen.level)

    @router.delete("/families/{name}", summary="Serve the family no more; its requests under way end in peace")
    async def remove_family(name: str, request: Request) -> JSONResponse:
        return await change(request, "remove_family", name, name=name)

    return router


def _without_password(url: str) -> str:
    """A URL with a password is refused, but stands in the line of the one who tried."""
    return re.sub(r"//.*@", "//", url, flags=re.DOTALL)
