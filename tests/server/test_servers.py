"""The same requests under every server that can run the application: the same answers, and the same end of work."""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from starlette.testclient import TestClient

from alphatier_server import create_app
from support.gateway import metric_value
from support.processes import until
from support.raw_client import connect
from support.raw_engine import STREAM_END, STREAM_HEAD, Piece, RawEngine, RawRequest, chunked, raw_engine, whole
from support.servers import ADMIN_KEY, KEY, SERVERS, RunningServer, gateway_folder, running_servers
from support.waiting import eventually

DATA = Path(__file__).parent / "data"
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
COUNT, EMBED = "/v1/messages/count_tokens", "/v1/embeddings"
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
ABORT_SECONDS = 1.0
IN_PROCESS = "in process"
REFERENCE = "accelerator"

# -- the engine


def _document(choice: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({"id": "x", "created": 1, "model": "x", "choices": [choice], "usage": USAGE, **more})


def _events(*documents: bytes) -> bytes:
    return b"".join(b"data: " + document + b"\n\n" for document in (*documents, b"[DONE]"))


WHOLE = {
    CHAT: _document({"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}),
    TEXT: _document({"index": 0, "text": "4", "finish_reason": "stop"}, object="text_completion"),
    RESPONSES: orjson.dumps({"id": "r", "object": "response", "model": "x", "status": "completed", "output": []}),
    MESSAGES: orjson.dumps({"id": "m", "type": "message", "model": "x", "role": "assistant", "content": []}),
    COUNT: b'{"input_tokens":13}',
    EMBED: b'{"data":[{"embedding":[0.5]}],"model":"x","usage":{"prompt_tokens":2,"total_tokens":2}}',
    "/version": b'{"version":"0.1"}',
}
STREAMED = {
    CHAT: _events(_document({"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"})),
    TEXT: _events(_document({"index": 0, "text": "4", "finish_reason": "stop"})),
    RESPONSES: (DATA / "responses.sse").read_bytes(),
    MESSAGES: (DATA / "messages.sse").read_bytes(),
}
ODD: dict[bytes, Sequence[Piece]] = {
    b"says 500": [whole(b'{"error":{"message":"CUDA"}}', "500 Internal Server Error")],
    b"says 503": [whole(b"busy", "503 Service Unavailable", "text/plain")],
    b"says 400": [whole(b'{"object":"error","message":"too long"}', "400 Bad Request")],
    b"says 401": [whole(b"{}", "401 Unauthorized")],
    b"says 499": [whole(b"<html>", "499 Odd", "text/html")],
    b"says garbage": [whole(b"<html>", kind="text/html")],
    b"dies": [STREAM_HEAD + chunked(b'data: {"id":"x","choices":[]}\n\n')],
}
STALLS = b"stalls"


class Script:
    """What the engine does, by what the request's body says."""

    def __init__(self, engine: RawEngine) -> None:
        self.engine = engine

    def __call__(self, request: RawRequest) -> Sequence[Piece]:
        path = request.line.split(b" ")[1].decode().partition("?")[0]
        self.engine.stall = STALLS in request.body
        self.engine.close = b"dies" in request.body
        for words, pieces in ODD.items():
            if words in request.body:
                return pieces
        streams = b'"stream":true' in request.body
        if self.engine.stall:
            return [STREAM_HEAD + chunked(STREAMED[path][:20])] if streams else []
        return [STREAM_HEAD, chunked(STREAMED[path]), STREAM_END] if streams else [whole(WHOLE[path])]


# -- what is asked


@dataclass(frozen=True)
class Case:
    status: int
    path: str = CHAT
    body: bytes | None = b'{"model":"toy"}'
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    key: str | None = KEY

    def all_headers(self) -> dict[str, str]:
        headers = {"x-request-id": "the-id", "user-agent": "test"} | self.headers
        if self.body is not None:
            headers.setdefault("content-type", "application/json")
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        return headers

    def request(self, base: str) -> httpx.Request:
        return httpx.Request(self.method, base + self.path, content=self.body, headers=self.all_headers())


STREAM = b'{"model":"toy:terse","stream":true}'


def says(words: str, *, stream: bool = False) -> bytes:
    return orjson.dumps({"model": "toy", "stream": stream, "user": words})


CASES = {
    **{f"whole {path}": Case(200, path) for path in (CHAT, TEXT, RESPONSES, MESSAGES, COUNT, EMBED)},
    **{f"streamed {path}": Case(200, path, STREAM) for path in (CHAT, TEXT, RESPONSES, MESSAGES)},
    "a GET that is passed on": Case(200, "/version", None, "GET"),
    "a query": Case(200, CHAT + "?beta=true"),
    "bad JSON": Case(400, body=b'{"model":'),
    "an unknown model": Case(404, body=b'{"model":"gpt-4"}'),
    "an unknown tier in the header": Case(404, headers={"x-efficiency-tier": "slow"}),
    "a wrong deadline": Case(400, headers={"x-request-timeout": "soon"}),
    "text": Case(415, headers={"content-type": "text/plain"}),
    "a form": Case(415, headers={"content-type": "application/x-www-form-urlencoded"}),
    "no key": Case(401, key=None),
    "a wrong key": Case(401, key="sk-other"),
    "a wrong key and Anthropic's shape": Case(401, MESSAGES, key="sk-other"),
    "too large": Case(413, body=b"x" * 100_001),
    "too large for a page": Case(413, "/v1/models", b"x" * 100_001),
    "an engine's 400": Case(400, body=says("says 400")),
    "an engine's 401": Case(502, body=says("says 401")),
    "an engine's 499": Case(502, body=says("says 499")),
    "an engine's 500": Case(502, body=says("says 500")),
    "an engine's 503": Case(503, body=says("says 503")),
    "an engine's garbage": Case(502, body=says("says garbage")),
    "a stream that breaks": Case(200, body=says("dies", stream=True)),
    "a generating path asked by GET": Case(405, CHAT, None, "GET"),
    "a generating path asked by OPTIONS": Case(405, CHAT, None, "OPTIONS"),
    "no such path": Case(404, "/v2/chat", b"{}"),
    "a path in disguise": Case(404, "/v1/chat%2fcompletions"),
    "a page in disguise": Case(404, "/%6detrics", None, "GET"),
    "live": Case(200, "/health/live", None, "GET"),
    "live by HEAD": Case(200, "/health/live", None, "HEAD"),
    "ready": Case(200, "/health/ready", None, "GET"),
    "health, as vLLM has it": Case(200, "/health", None, "GET"),
    "models": Case(200, "/v1/models", None, "GET"),
    "models by HEAD": Case(200, "/v1/models", None, "HEAD"),
    "one model": Case(200, "/v1/models/toy:terse", None, "GET"),
    "one model, escaped": Case(200, "/v1/models/toy%3Aterse", None, "GET"),
    "models without a key": Case(401, "/v1/models", None, "GET", key=None),
    "the OpenAPI document": Case(200, "/openapi.json", None, "GET"),
    "administrators only": Case(403, "/admin/engines", None, "GET"),
    "families": Case(200, "/admin/families", None, "GET", key=ADMIN_KEY),
    "an admin's mistake": Case(400, "/admin/engines", b'{"url":5}', key=ADMIN_KEY),
}
NOT_OURS = {"date", "server", "connection", "transfer-encoding", "content-length", "vary"}


def told(response: Any) -> tuple[int, dict[str, str], bytes]:
    """What the gateway itself has said."""
    headers = {name: value for name, value in response.headers.items() if name not in NOT_OURS}
    return response.status_code, headers, response.content


# -- the servers


@pytest.fixture(scope="module")
def engine() -> Iterator[RawEngine]:
    with raw_engine() as made:
        made.script = Script(made)
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine: RawEngine) -> Path:
    return gateway_folder(tmp_path_factory.mktemp("servers"), engine)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[dict[str, RunningServer]]:
    with running_servers(folder, folder) as running:
        yield running


@pytest.fixture(params=SERVERS)
def server(servers: dict[str, RunningServer], request: pytest.FixtureRequest) -> RunningServer:
    return servers[request.param]


@pytest.fixture(scope="module")
def answers(servers: dict[str, RunningServer], folder: Path) -> dict[str, dict[str, Any]]:
    """What each server answers to each case: server -> case -> answer."""
    found = {name: _ask_all(server.url) for name, server in servers.items()}
    return found | {IN_PROCESS: asyncio.run(_ask_in_process(folder))}


def _ask_all(url: str) -> dict[str, Any]:
    with httpx.Client(timeout=20) as client:
        return {name: told(client.send(case.request(url))) for name, case in CASES.items()}


async def _ask_in_process(folder: Path) -> dict[str, Any]:
    app = create_app(folder / "gateway.toml")

    async def is_ready() -> bool:
        return (await client.get("/health/ready")).status_code == 200

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        await eventually(is_ready)
        return {name: told(await client.send(case.request("http://gateway"))) for name, case in CASES.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*SERVERS, IN_PROCESS])
def test_an_answer_is_the_same_under_every_server(answers: dict[str, dict[str, Any]], name: str, case: str) -> None:
    status, headers, body = answers[name][case]
    assert status == CASES[case].status, body
    assert (status, headers, body) == answers[REFERENCE][case]


def test_no_answer_names_an_engines_address(answers: dict[str, dict[str, Any]], engine: RawEngine) -> None:
    port = urlsplit(engine.url).netloc.partition(":")[2].encode()
    for name, answer in answers.items():
        told_of = [case for case, (_, _, body) in answer.items() if b"127.0.0.1" in body or port in body]
        assert told_of == [], name


def test_starlettes_test_client_gets_them_too(answers: dict[str, dict[str, Any]], folder: Path) -> None:
    with TestClient(create_app(folder / "gateway.toml"), base_url="http://gateway") as client:
        until(lambda: client.get("/health/ready").status_code == 200, 20)
        for name in (f"whole {CHAT}", f"streamed {MESSAGES}", "no key", "bad JSON", "models"):
            case = CASES[name]
            got = client.request(case.method, case.path, content=case.body, headers=case.all_headers())
            assert told(got) == answers[REFERENCE][name], name


def test_a_get_answers_head_with_the_same_length_and_no_content(server: RunningServer) -> None:
    for path in ("/health/live", "/v1/models"):
        headers = {"authorization": f"Bearer {KEY}"}
        got, head = httpx.get(server.url + path, headers=headers), httpx.head(server.url + path, headers=headers)
        assert head.headers["content-length"] == str(len(got.content))
        assert head.content == b""
        assert "date" in head.headers


def test_a_key_that_is_there_twice_is_refused(server: RunningServer) -> None:
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/admin/engines")):
        for name in ("authorization", "x-api-key"):
            headers = [(name, f"Bearer {KEY}"), (name, f"Bearer {ADMIN_KEY}"), ("content-type", "application/json")]
            answer = httpx.request(method, server.url + path, headers=headers, content=b"{}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header"), (path, name)


def test_a_query_reaches_the_engine_on_paths_that_are_passed_on_alone(
    server: RunningServer, engine: RawEngine
) -> None:
    for path, sent in ((EMBED, f"{EMBED}?a=%20b&c=/v1"), (CHAT, CHAT)):
        engine.clear()
        with httpx.Client() as client:
            asked = client.send(Case(200, f"{path}?a=%20b&c=/v1").request(server.url))
        assert asked.status_code == 200
        assert engine.requests[0].line == f"POST {sent} HTTP/1.1".encode()


@pytest.mark.parametrize("path", [CHAT, MESSAGES, EMBED, "/v1/models"])
def test_a_web_page_of_a_configured_origin_gets_answers_from_serve(
    servers: dict[str, RunningServer], path: str
) -> None:
    page = {"origin": "https://chat.example.org"}
    method = "GET" if path == "/v1/models" else "POST"
    asking = page | {"access-control-request-method": method, "access-control-request-headers": "authorization"}
    case = Case(200, path, None if method == "GET" else b'{"model":"toy"}', method)
    for name, allowed in (("serve with CORS", page["origin"]), ("accelerator", None)):
        url = servers[name].url + path
        preflight = httpx.options(url, headers=asking)
        assert preflight.is_success == (allowed is not None)
        assert preflight.headers.get("access-control-allow-origin") == allowed
        answer = httpx.request(method, url, content=case.body, headers=case.all_headers() | page)
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, allowed)


def _first_line(client: socket.socket) -> bytes:
    with client.makefile("rb") as answer:
        return answer.readline()


@pytest.mark.parametrize("path", [CHAT, MESSAGES, EMBED, "/v1/models", "/admin/engines"])
def test_who_has_no_key_is_told_so_before_the_body_comes(server: RunningServer, path: str) -> None:
    with connect(server.url) as client:
        client.sendall(_raw(Case(401, path, b"x" * 90_000, key=None))[:-90_000])
        assert b" 401 " in _first_line(client)


def test_a_body_in_chunks_past_the_limit_is_refused_on_every_path(server: RunningServer) -> None:
    for path in (CHAT, EMBED, "/admin/engines", "/v1/models"):
        with connect(server.url) as client:
            head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
            head += "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            client.sendall(head.encode() + chunked(b" " * 60_000) * 2)  # without an end
            assert b" 413 " in _first_line(client), path


# -- clients that leave


def _raw(case: Case) -> bytes:
    request = case.request("http://gateway")
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST {case.path} HTTP/1.1\r\n{head}\r\n".encode() + (case.body or b"")


def _in_flight(server: RunningServer) -> float:
    return metric_value(httpx.get(f"{server.url}/metrics").text, "alphatier_requests_in_flight")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_client_that_leaves_aborts_the_engines_request(
    server: RunningServer, engine: RawEngine, path: str, stream: bool
) -> None:
    engine.clear()
    client = connect(server.url)
    client.sendall(_raw(Case(200, path, says("stalls", stream=stream))))
    engine.wait_for(1)
    left = time.perf_counter()
    client.close()
    assert engine.requests[0].gone.wait(5), "the engine's request was not aborted"
    assert engine.requests[0].gone_at - left < ABORT_SECONDS
    until(lambda: _in_flight(server) == 0, 5)


def test_a_client_that_leaves_within_its_body_costs_the_engine_nothing(
    server: RunningServer, engine: RawEngine
) -> None:
    engine.clear()
    client = connect(server.url)
    client.sendall(_raw(Case(200, CHAT))[:-3])
    client.close()
    assert httpx.get(f"{server.url}/health/live").status_code == 200
    until(lambda: _in_flight(server) == 0, 5)
    assert engine.requests == []


def test_no_server_tells_of_a_fault_of_the_application(
    answers: dict[str, dict[str, Any]], server: RunningServer
) -> None:
    assert "Traceback" not in server.log.read_text()
