"""docker/grafana/alphatier.json: every query of the dashboard runs against a real Prometheus and has data."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from alphatier_models import load_family
from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.brownout import BrownoutSettings
from alphatier_server.settings.overload import OverloadSettings
from alphatier_server.settings.shadow import ShadowSettings
from support.fake_engine import DONE, USAGE, break_connection, chunk, completion, either, error, events
from support.families import small_family
from support.gateway import pair
from support.keys import key_file
from support.processes import prometheus
from support.routers import with_router
from support.waiting import eventually

BOARD = json.loads((Path(__file__).parents[2] / "docker" / "grafana" / "alphatier.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
ANY = {"$__rate_interval": "1m", "$family": ".*", "$tier": ".*"}


def filled(query: str) -> str:
    """The query as Grafana sends it, for every family and tier."""
    for variable, value in ANY.items():
        query = query.replace(variable, value)
    return query


QUERIES = {
    f"{panel['title']}: {target['refId']}": filled(target["expr"]) for panel in PANELS for target in panel["targets"]
}


def test_the_board_is_of_five_rows_and_few_panels() -> None:
    assert sum(panel["type"] == "row" for panel in BOARD["panels"]) == 5
    assert len(PANELS) <= 25
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert all(panel["description"] for panel in PANELS)


async def test_every_query_has_data_after_a_short_load(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    with_router(tmp_path / "toy", load_family(tmp_path / "toy"))
    family = load_family(tmp_path / "toy")
    end = (chunk({"content": "\\boxed{4}"}, "stop"), chunk(usage=USAGE), DONE)
    answering = either(events(chunk({"reasoning": "2"}), *end), completion())
    keys = key_file(tmp_path, {"ann": "sk-ann", "bob": "sk-bob"}, bob={"requests_per_minute": 1})
    async with AsyncExitStack() as stack:
        gateway, engine = await stack.enter_async_context(
            pair(
                {"toy": family},
                answering,
                folders={"toy": tmp_path / "toy"},
                access=build_access(AccessSettings(keys_file=keys)),
                shadow=ShadowSettings(share=1.0),
                brownout=BrownoutSettings(seconds=20),
                overload=OverloadSettings(max_in_flight=2, max_queue=1),
            )
        )

        async def ask(key: str = "ann", model: str = "toy:auto", text: str = "What is 2 + 2?", **more: Any) -> None:
            body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
            headers = {"authorization": f"Bearer sk-{key}"}
            async with gateway.http.post(
                f"{gateway.url}/v1/chat/completions", json=body, headers=headers
            ) as response:
                await response.read()

        async def load() -> None:
            for _ in range(3):
                await ask(stream=True)
                await ask(model="toy:terse")
                await ask(text="Tell me about the sea.")
                await ask(model="toy", deadline_ms=60_000)
                await ask("bob")
            await asyncio.gather(*(ask() for _ in range(6)))  # more than may wait
            engine.handler = error(500, b"{}")
            await ask(model="toy:base")
            engine.handler = events(chunk({"content": "half"}), then=break_connection)
            await ask(model="toy:base", stream=True)
            engine.handler = answering

        url = stack.enter_context(prometheus(gateway.url.removeprefix("http://"), tmp_path))
        await load()

        async def missing() -> list[str]:
            async with httpx.AsyncClient() as client:
                found = []
                for name, query in QUERIES.items():
                    answer = (await client.get(f"{url}/api/v1/query", params={"query": query})).json()
                    assert answer["status"] == "success", (name, answer)
                    if not answer["data"]["result"]:
                        found.append(name)
                return found

        async def all_there() -> bool:
            await load()
            return not await missing()

        try:
            await eventually(all_there, 60)
        except Exception:
            assert await missing() == []
            raise
