"""The admin API: what it does, what it refuses, and the line that every change leaves."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware

from alphatier_server.engines.control import administer, invalid_value
from alphatier_server.keys.access import build_access
from alphatier_server.middleware.auth import AuthMiddleware
from alphatier_server.middleware.errors import error_response
from alphatier_server.routes.admin import admin_router
from alphatier_server.settings.access import AccessSettings
from support.fake_engine import FakeEngine
from support.fleets import NewFleet, RunningFleet, by_url, change_tier
from support.waiting import eventually


def admin_client(running: RunningFleet, lines: list[dict[str, Any]] | None = None) -> httpx.AsyncClient:
    access = build_access(AccessSettings(), environment={"ALPHATIER_ADMIN_KEYS": "root:the-key-of-root"})
    app = FastAPI(middleware=[Middleware(AuthMiddleware, access=access, generating=())])
    kept = lines if lines is not None else []
    app.include_router(admin_router(partial(administer, running.fleet), audit=kept.append))

    async def refused(request: Request, problem: Any) -> Response:
        return error_response(request.scope, invalid_value(problem.errors()))

    app.add_exception_handler(RequestValidationError, refused)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://gateway",
        headers={"authorization": "Bearer the-key-of-root"},
    )


async def test_the_admin_api_adds_drains_and_removes_engines(fleet: NewFleet, engines: list[FakeEngine]) -> None:
    one, other = engines
    async with (
        fleet([by_url(one)], wait=[one.replica]) as running,
        admin_client(running) as client,
    ):
        added = await client.post("/admin/engines", json={"url": other.url, "name": "other", "api_key": "sk-1"})
        assert (added.status_code, added.json()["name"]) == (201, "other")
        await running.up("toy@other")
        listed = (await client.get("/admin/engines")).json()["data"]
        assert [(engine["name"], engine["origin"], engine["state"]) for engine in listed] == [
            (one.address, "config", "up"),
            ("other", "admin", "up"),
        ]
        assert "sk-1" not in str(listed)
        again = await client.post("/admin/engines", json={"url": other.url, "name": "other"})
        assert again.status_code == 409
        await running.fleet.apply([by_url(one)])  # what the API added is not the file's to remove
        assert running.states()["other"] == "up"
        assert (await client.post(f"/admin/engines/{one.url}/drain")).status_code == 202
        await eventually(lambda: list(running.states()) == ["other"])
        assert (await client.delete("/admin/engines/other")).status_code == 200
        assert (await client.get("/admin/engines")).json()["data"] == []
        assert (await client.delete("/admin/engines/other")).status_code == 404


async def test_the_admin_api_changes_families(toy: Path, running: RunningFleet) -> None:
    async with admin_client(running) as client:
        new = change_tier(toy, "terse", "new")
        loaded = await client.post("/admin/families", json={"path": str(toy)})
        assert loaded.status_code == 200
        assert [tier["sha256"] for tier in loaded.json()["tiers"] if tier["name"] == "terse"] == [new]
        assert await running.ask("toy:terse") == (200, new)
        change_tier(toy, "terse", "wide", rank=128)
        refused = await client.put("/admin/families", json={"path": str(toy / "family.json")})
        assert refused.status_code == 409
        assert "rank 128" in refused.json()["error"]["message"]
        nowhere = await client.post("/admin/families", json={"path": "/etc"})
        assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (400, "invalid_family")
        assert (await client.get("/admin/families")).json()["data"][0]["name"] == "toy"
        assert (await client.delete("/admin/families/toy")).status_code == 200
        assert (await client.delete("/admin/families/toy")).status_code == 404
        assert (await running.ask("toy:terse"))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"url": "file:///etc/passwd"},
        {"url": "gopher://host:1"},
        {"url": "http://user:secret@host:1"},
        {"url": "http://host:1/?x=1"},
        {"url": "http://host:99999"},
        {"url": "http://"},
        {"url": "http://host:1/\r\nx: y"},
        {"url": "http://h\u00f6st:1"},
        {"url": "http://host\\@evil:1"},
        {"url": "http://host", "name": "../x"},
        {"url": "http://host", "arguments": ["--x"]},
        {"url": 7},
        {},
        [],
    ],
)
async def test_what_is_no_plain_http_url_is_refused_in_openais_shape(fleet: NewFleet, body: Any) -> None:
    async with fleet([]) as running, admin_client(running) as client:
        refused = await client.post("/admin/engines", json=body)
        assert refused.status_code == 400
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
        assert "secret" not in refused.text
        assert running.states() == {}


async def test_without_an_admin_key_there_is_no_admin_api(fleet: NewFleet) -> None:
    async with fleet([]) as running, admin_client(running) as client:
        for path in ("/admin/engines", "/admin/families"):
            for method in ("GET", "POST"):
                wrong = await client.request(method, path, headers={"authorization": "Bearer other"})
                assert wrong.status_code == 403
                del client.headers["authorization"]
                missing = await client.request(method, path)
                assert missing.status_code == 401
                client.headers["authorization"] = "Bearer the-key-of-root"


@pytest.mark.parametrize("key", ["s\u00e9cret", "secret\r\nx-admin: yes", "secret\n", ""])
async def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(fleet: NewFleet, key: str) -> None:
    async with fleet([]) as running, admin_client(running) as client:
        refused = await client.post("/admin/engines", json={"url": "http://host:1", "api_key": key})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "api_key")
        assert "no HTTP header can hold" in refused.text
        assert "cret" not in refused.text
        assert running.states() == {}


async def test_an_administrator_holds_a_level_of_brownout_and_lets_it_go(running: RunningFleet) -> None:
    async with admin_client(running) as client:
        held = await client.put("/admin/families/toy/brownout", json={"level": 0.5})
        assert (held.status_code, held.json()) == (200, {"family": "toy", "level": 0.5})
        assert running.fleet.frozen == {"toy": 0.5}
        assert (await client.put("/admin/families/toy/brownout", json={"level": 2})).status_code == 400
        assert (await client.put("/admin/families/nobody/brownout", json={"level": 0})).status_code == 404
        assert (await client.put("/admin/families/toy/brownout", json={"level": None})).status_code == 200
        assert running.fleet.frozen == {}


async def test_every_change_leaves_a_line_that_says_who_made_it_and_what_came_of_it(
    fleet: NewFleet, toy: Path, engines: list[FakeEngine]
) -> None:
    lines: list[dict[str, Any]] = []
    (one, _) = engines
    async with fleet([]) as running, admin_client(running, lines) as client:
        await client.get("/admin/engines")
        await client.get("/admin/families")
        await client.post("/admin/engines", json={}, headers={"authorization": "Bearer other"})
        assert lines == []  # nothing was changed
        await client.post("/admin/engines", json={"url": one.url, "name": "one", "api_key": "sk-1"})
        await client.post("/admin/engines", json={"url": "http://user:sk-2@host"})
        await client.post("/admin/engines/one/drain")
        await client.delete("/admin/engines/nobody")
        await client.post("/admin/families", json={"path": str(toy)})
        await client.delete("/admin/families/toy")
    assert {(line["event"], line["admin"], line["client"]) for line in lines} == {("admin", "root", "127.0.0.1")}
    assert [(line["action"], line["target"], line["status"], line.get("error")) for line in lines] == [
        ("add_engine", one.url, 201, None),
        ("add_engine", "http://host", 400, "invalid_value"),
        ("drain_engine", "one", 202, None),
        ("remove_engine", "nobody", 404, "not_found"),
        ("load_family", str(toy), 200, None),
        ("remove_family", "toy", 200, None),
    ]
    assert not any(secret in str(lines) for secret in ("sk-1", "sk-2", "the-key-of-root"))
