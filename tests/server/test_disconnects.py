"""Clients that leave, and how soon the engine's request is aborted: every time, whatever it was waiting for."""

import json
import socket
import statistics
import struct
import time
from collections.abc import Iterator, Sequence

import pytest

from support.fuzzing import BODY, living, module_pair, request
from support.processes import Served, until
from support.raw_client import connect
from support.raw_engine import STREAM_HEAD, Piece, RawEngine, chunked

TIMES = 100
ABORT_SECONDS = 0.05
EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
STREAMED = b'{"model":"toy","stream":true}'

WAITING: dict[str, tuple[bytes, Sequence[Piece], bytes]] = {
    "for the head of a whole answer": (BODY, [], b""),
    "for the head of a stream": (STREAMED, [], b""),
    "for the rest of a whole answer": (
        BODY,
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"],
        b"",
    ),
    "for the next event of a stream": (STREAMED, [STREAM_HEAD + chunked(EVENT)], b"data: "),
}
"""What the client sends, what the engine sends before it falls silent, what the client sees before it leaves."""


pair = module_pair("leaving", engine_timeout=60.0)


@pytest.fixture
def gateway(pair: tuple[Served, RawEngine]) -> Iterator[Served]:
    with living(pair[0]) as gateway:
        yield gateway


@pytest.fixture
def engine(pair: tuple[Served, RawEngine]) -> Iterator[RawEngine]:
    pair[1].clear()
    pair[1].stall = True
    yield pair[1]
    pair[1].stall = False


def leave(client: socket.socket, *, abrupt: bool) -> float:
    """Close the connection, with a reset or in order; the moment."""
    if abrupt:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    moment = time.perf_counter()
    client.close()
    return moment


def read_until(client: socket.socket, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        data = client.recv(65536)
        assert data, seen
        seen += data


def outcomes(gateway: Served) -> list[str]:
    """How the requests so far were recorded."""
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    return [line["outcome"] for line in lines if line.get("event") == "request"]


def nothing_in_flight(gateway: Served) -> bool:
    return gateway.metric("alphatier_requests_in_flight") == 0


@pytest.mark.parametrize("abrupt", [False, True], ids=["in order", "with a reset"])
@pytest.mark.parametrize("waiting", WAITING)
def test_a_client_that_leaves_aborts_the_engines_request_at_once(
    waiting: str, abrupt: bool, gateway: Served, engine: RawEngine
) -> None:
    body, engine.script, seen = WAITING[waiting]
    known = len(outcomes(gateway))
    delays = []
    for number in range(TIMES):
        client = connect(gateway.url)
        client.sendall(request(body))
        engine.wait_for(number + 1)
        if seen:
            read_until(client, seen)
        left = leave(client, abrupt=abrupt)
        assert engine.requests[number].gone.wait(5), f"number {number} was not aborted"
        delays.append(engine.requests[number].gone_at - left)
    assert max(delays) <= ABORT_SECONDS, f"median {statistics.median(delays):.4f} s, longest {max(delays):.4f} s"
    until(lambda: nothing_in_flight(gateway), 5)
    until(lambda: len(outcomes(gateway)) == known + TIMES, 5)
    assert set(outcomes(gateway)[known:]) == {"disconnected"}


def test_a_client_that_leaves_while_it_sends_its_body_costs_the_engine_nothing(
    gateway: Served, engine: RawEngine
) -> None:
    known = len(outcomes(gateway))
    for number in range(TIMES):
        client = connect(gateway.url)
        client.sendall(request()[: -1 - number % len(BODY)])
        leave(client, abrupt=False)
    until(lambda: len(outcomes(gateway)) == known + TIMES, 5)
    assert set(outcomes(gateway)[known:]) == {"disconnected"}
    assert engine.requests == []
    assert nothing_in_flight(gateway)


def test_a_client_that_leaves_with_a_request_in_the_pipeline_aborts_both(gateway: Served, engine: RawEngine) -> None:
    engine.script = []
    client = connect(gateway.url)
    client.sendall(request() + request())
    engine.wait_for(1)
    leave(client, abrupt=False)
    assert engine.requests[0].gone.wait(5)
    until(lambda: nothing_in_flight(gateway), 5)
    assert len(engine.requests) == 1


def test_many_clients_that_leave_at_once_leave_nothing_behind(gateway: Served, engine: RawEngine) -> None:
    body, engine.script, _ = WAITING["for the next event of a stream"]
    clients = [connect(gateway.url) for _ in range(TIMES)]
    for client in clients:
        client.sendall(request(body))
    engine.wait_for(TIMES)
    for client in clients:
        leave(client, abrupt=True)
    assert all(each.gone.wait(5) for each in engine.requests)
    until(lambda: nothing_in_flight(gateway), 5)
    assert gateway.metric("alphatier_replica_requests_in_flight") == 0
