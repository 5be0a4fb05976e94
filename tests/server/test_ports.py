"""The public port and the second one: what is served where, alone and with workers, and HTTPS."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from support.certificates import self_signed
from support.fuzzing import ANSWER, request
from support.keys import key_file
from support.processes import Served, serving_toy, until
from support.raw_client import connect
from support.raw_engine import RawEngine, raw_engine, whole

both = pytest.mark.parametrize("workers", [1, 2])
ADMIN = {"authorization": "Bearer sk-admin"}
PRIVATE = ("/metrics", "/docs", "/redoc", "/openapi.json", "/admin/engines")
MESSAGES: Any = [{"role": "user", "content": "2 + 2?"}]


@contextmanager
def gateway(
    folder: Path, engine: RawEngine, workers: int, *options: str, verify: ssl.SSLContext | bool = True
) -> Iterator[Served]:
    keys = key_file(folder, {"boss": "sk-admin", "team": "sk-team"}, boss={"admin": True})
    more = ("--keys", str(keys), *options)
    with serving_toy(folder, engine.url, *more, workers=workers, verify=verify) as served:
        yield served


def second_url(served: Served) -> str:
    found = re.search(r"docs are at (\S+)", served.said())
    assert found is not None
    return found[1]


@both
def test_with_a_second_port_the_first_one_has_nothing_private(
    tmp_path: Path, workers: int, engine: RawEngine
) -> None:
    with gateway(tmp_path, engine, workers, "--admin-port", "0") as served:
        second = second_url(served)
        for path in PRIVATE:
            public = httpx.get(served.url + path, headers=ADMIN)
            assert (public.status_code, public.json()["error"]["code"]) == (404, None), path
            assert httpx.get(second + path, headers=ADMIN).status_code == 200, path
        assert httpx.get(f"{second}/health/ready").status_code == 200
        assert httpx.post(f"{second}/v1/chat/completions", headers=ADMIN, json={}).status_code == 404
        assert "alphatier_replica_up" in httpx.get(f"{second}/metrics").text


@both
def test_without_a_second_port_everything_is_on_the_first(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    with gateway(tmp_path, engine, workers) as served:
        for path in PRIVATE:
            assert httpx.get(served.url + path, headers=ADMIN).status_code == 200, path


@both
def test_the_admin_api_takes_only_an_admin_key(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    with gateway(tmp_path, engine, workers, "--admin-port", "0") as served:
        url = f"{second_url(served)}/admin/engines"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"authorization": "Bearer sk-team"}).status_code == 403
        assert httpx.get(url, headers=ADMIN).status_code == 200


@both
def test_an_engine_added_by_whichever_process_answers_is_known_to_all(
    tmp_path: Path, workers: int, engine: RawEngine
) -> None:
    with raw_engine() as other, gateway(tmp_path, engine, workers) as served:
        added = httpx.post(f"{served.url}/admin/engines", headers=ADMIN, json={"url": other.url})
        assert added.status_code == 201, added.text
        until(lambda: all(replicas(served) == 2 for _ in range(8)), 20)
        wrong = httpx.post(f"{served.url}/admin/engines", headers=ADMIN, json={"url": "file:///etc/passwd"})
        assert wrong.status_code == 400
        assert wrong.json()["error"]["message"]


def replicas(served: Served) -> int:
    return len(httpx.get(f"{served.url}/health/ready", headers=ADMIN).json()["replicas"])


@both
def test_only_administrators_and_the_second_port_are_told_where_engines_are(
    tmp_path: Path, workers: int, engine: RawEngine
) -> None:
    with gateway(tmp_path, engine, workers, "--admin-port", "0") as served:
        address = urlsplit(engine.url).netloc
        for path in ("/health/ready", "/health"):
            for headers in ({}, {"authorization": "Bearer sk-team"}):
                anybody = httpx.get(served.url + path, headers=headers)
                assert anybody.json()["replicas"] == {"up": 1, "all": 1}
            shown = httpx.get(served.url + path, headers=ADMIN).json()["replicas"]
            assert shown == httpx.get(second_url(served) + path).json()["replicas"]
            assert list(shown) == [f"toy@{address}"]


@both
def test_the_second_port_shows_what_all_processes_have_open(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    with gateway(tmp_path, engine, workers, "--admin-port", "0") as served:
        second = second_url(served)
        engine.script, engine.stall = (), True
        clients = [connect(served.url) for _ in range(4)]
        for client in clients:
            client.sendall(request(headers=["authorization: Bearer sk-team"]))
        engine.wait_for(4)
        until(lambda: in_flight(second) == 4, 20)
        for client in clients:
            client.close()
        until(lambda: in_flight(second) == 0, 20)


def in_flight(url: str) -> int:
    return sum(replica["in_flight"] for replica in httpx.get(f"{url}/health/ready").json()["replicas"].values())


@both
def test_the_openai_client_talks_https(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    certificate, key = self_signed(tmp_path / "tls", "gateway")
    trust = ssl.create_default_context(cafile=str(certificate))
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with gateway(tmp_path, engine, workers, *options, verify=trust) as served:
        engine.script = [whole(ANSWER)]
        assert served.url.startswith("https://")
        http = openai.DefaultHttpxClient(verify=trust)
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-team", http_client=http, max_retries=0) as sdk:
            answer = sdk.chat.completions.create(model="toy", messages=MESSAGES)
        assert answer.choices[0].message.content == "4"
        with pytest.raises(httpx.TransportError):
            httpx.get(served.url.replace("https", "http") + "/health/live")
