"""The HTTP client to engines: kept connections, odd answers, and limits of time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from alphatier_server.upstream import Answer, Broken, TimedOut, Unreachable, UpstreamClient, UpstreamLimits
from alphatier_server.upstream.connection import Sink
from support.raw_engine import STREAM_END, STREAM_HEAD, RawEngine, chunked, raw_engine, whole
from support.waiting import eventually

JSON = b'{"a":1}'


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(UpstreamLimits(connect=2, first_byte=0.3, idle=0.3))
    yield client
    client.close()


async def post(client: UpstreamClient, url: str) -> Answer:
    return await client.post(url, "/v1/x", b"{}", b"")


async def relay(answer: Answer, sink: Sink) -> None:
    await answer.connection.relay(sink)


async def ask(client: UpstreamClient, engine: RawEngine) -> bytes:
    answer = await post(client, engine.url)
    assert answer.body is not None
    answer.connection.release()
    return answer.body


async def stream(client: UpstreamClient, engine: RawEngine) -> bytes:
    answer = await post(client, engine.url)
    assert answer.body is None
    parts: list[bytes] = []

    def take(data: bytes) -> bool:
        parts.append(data)
        return False

    try:
        await relay(answer, take)
    finally:
        answer.connection.abort()
    return b"".join(parts)


async def test_connections_to_engines_that_are_gone_are_closed(client: UpstreamClient) -> None:
    with raw_engine() as gone, raw_engine() as there:
        gone.script = there.script = [whole(JSON)]
        first, kept = [await post(client, engine.url) for engine in (gone, there)]
        first.connection.release()
        kept.connection.release()
        client.keep({there.url})
        again = [await post(client, engine.url) for engine in (gone, there)]
        assert again[0].connection is not first.connection
        assert again[1].connection is kept.connection
        for answer in again:
            answer.connection.release()


async def test_a_connection_is_kept_and_used_again(client: UpstreamClient, engine: RawEngine) -> None:
    engine.script = [whole(JSON)]
    connections = set()
    for _ in range(3):
        answer = await post(client, engine.url)
        connections.add(id(answer.connection))
        assert answer.connection.used <= 3
        answer.connection.release()
    assert len(connections) == 1
    assert [request.body for request in engine.requests] == [b"{}"] * 3


async def test_a_kept_connection_that_the_engine_closed_is_told_from_one_that_broke(
    client: UpstreamClient, engine: RawEngine
) -> None:
    engine.script = [whole(JSON)]
    engine.close = True  # after each answer, without saying so
    for _ in range(20):
        try:
            assert await ask(client, engine) == JSON
        except Broken as error:
            told = (error.reused, error.answered)
        else:
            continue
        assert told == (True, False)
        answer = await client.post(engine.url, "/v1/x", b"{}", b"", fresh=True)
        assert answer.body == JSON
        answer.connection.release()
    assert len(engine.requests) == 20


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(
    client: UpstreamClient, engine: RawEngine
) -> None:
    engine.script = [whole(JSON), 0.02, whole(b'{"stolen":1}')]
    answer = await post(client, engine.url)
    answer.connection.release()
    await eventually(lambda: answer.connection.closed, 5)
    engine.script = [whole(b'{"b":2}')]
    assert await ask(client, engine) == b'{"b":2}'


@pytest.mark.parametrize("more", [whole(b'{"stolen":1}'), b"HTTP/1.1 2"], ids=["whole", "in part"])
async def test_a_second_answer_in_one_piece_with_the_first_ends_the_connection(
    client: UpstreamClient, engine: RawEngine, more: bytes
) -> None:
    engine.script = [whole(JSON) + more]
    assert await ask(client, engine) == JSON
    engine.script = [whole(b'{"b":2}')]
    assert await ask(client, engine) == b'{"b":2}'


async def test_interim_answers_are_passed_over(client: UpstreamClient, engine: RawEngine) -> None:
    engine.script = [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", whole(JSON)]
    assert await ask(client, engine) == JSON


async def test_an_answer_may_end_with_its_connection(client: UpstreamClient, engine: RawEngine) -> None:
    engine.close = True
    engine.script = [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + JSON]
    assert await ask(client, engine) == JSON


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"],
        [b"HTTP/1.1 200 OK\r\ncontent-le"],
        [b"\x00\x01\x02\x03 nonsense\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 400_000],
        [],
    ],
)
async def test_what_is_no_whole_answer_is_broken(
    client: UpstreamClient, script: list[bytes], engine: RawEngine
) -> None:
    engine.close = True
    engine.script = script
    with pytest.raises(Broken):
        await ask(client, engine)


async def test_a_stream_is_handed_on_piece_by_piece_and_must_end_properly(
    client: UpstreamClient, engine: RawEngine
) -> None:
    engine.script = [STREAM_HEAD, chunked(b"data: 1\n\n"), 0.02, chunked(b"data: 2\n\n"), STREAM_END]
    assert await stream(client, engine) == b"data: 1\n\ndata: 2\n\n"
    engine.close = True
    engine.script = [STREAM_HEAD, chunked(b"data: 1\n\n")]
    with pytest.raises(Broken) as broken:
        await stream(client, engine)
    assert broken.value.answered


async def test_a_silent_engine_is_given_up(client: UpstreamClient, engine: RawEngine) -> None:
    engine.script, engine.stall = (), True
    with pytest.raises(TimedOut) as late:
        await ask(client, engine)
    assert not late.value.answered
    engine.script = [STREAM_HEAD, chunked(b"data: 1\n\n")]
    with pytest.raises(TimedOut) as stalled:
        await stream(client, engine)
    assert stalled.value.answered
    engine.wait_for(2)
    assert all([await asyncio.to_thread(request.gone.wait, 5) for request in engine.requests])


async def test_what_cancels_the_wait_closes_the_connection(client: UpstreamClient, engine: RawEngine) -> None:
    engine.script, engine.stall = (), True
    waiting = asyncio.create_task(ask(client, engine))
    await asyncio.to_thread(engine.wait_for, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await asyncio.to_thread(engine.requests[0].gone.wait, 0.2)


async def test_an_engine_that_is_not_there_is_unreachable(client: UpstreamClient) -> None:
    with raw_engine() as engine:
        url = engine.url
    with pytest.raises(Unreachable):
        await post(client, url)


async def test_odd_jobs_have_a_limit_of_time(client: UpstreamClient, engine: RawEngine) -> None:
    assert (await client.fetch("GET", f"{engine.url}/v1/models?x=1", timeout=2)).status == 200
    engine.script, engine.stall = (), True
    with pytest.raises(TimedOut):
        await client.fetch("POST", f"{engine.url}/v1/load", body=b"{}", timeout=0.1)


async def test_a_connection_that_was_paused_at_the_end_of_a_stream_can_be_used_again(
    client: UpstreamClient, engine: RawEngine
) -> None:
    engine.script = [STREAM_HEAD + chunked(b"data: 1\n\n") + STREAM_END]
    answer = await post(client, engine.url)

    def take(data: bytes) -> bool:
        answer.connection.pause()
        return False

    await relay(answer, take)
    answer.connection.release()
    engine.script = [whole(JSON)]
    again = await post(client, engine.url)
    assert again.connection is answer.connection
    assert again.body == JSON
    again.connection.release()


class _Timers(asyncio.SelectorEventLoop):
    """Counts the timers that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def call_at(self, when: float, callback: Any, *arguments: Any, context: Any = None) -> Any:  # type: ignore[override]
        self.count += 1
        return super().call_at(when, callback, *arguments, context=context)


def test_a_paused_stream_is_looked_at_rarely_and_goes_on() -> None:
    async def main() -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Timers)
        with raw_engine() as engine:
            engine.script = [STREAM_HEAD + chunked(b"data: 1\n\n"), chunked(b"data: 2\n\n") + STREAM_END]
            client = UpstreamClient(UpstreamLimits(first_byte=0.1, idle=0.1))
            answer = await client.post(engine.url, "/v1/x", b"{}", b"")
            got: list[bytes] = []
            answer.connection.pause()

            def take(piece: bytes) -> bool:
                got.append(piece)
                return False

            ended = answer.connection.relay(take)
            before = loop.count
            await asyncio.sleep(0.45)  # more than four times the limit
            set_meanwhile = loop.count - before
            answer.connection.resume()
            await asyncio.wait_for(ended, 5)
            answer.connection.release()
            client.close()
            return set_meanwhile, b"".join(got)

    with asyncio.Runner(loop_factory=_Timers) as runner:
        timers, got = runner.run(main())
    assert timers <= 6  # the sleep's own, and one a limit
    assert got == b"data: 1\n\ndata: 2\n\n"


async def test_an_answer_that_comes_before_the_request_is_sent_counts(client: UpstreamClient) -> None:
    """As from a server that refuses a large body at once and reads no more of it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b"{}", "413 Content Too Large"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for _ in range(10):
        answer = await client.post(url, "/v1/x", b" " * 20_000_000, b"", fresh=True)
        assert answer.status == 413
        answer.connection.release()
    server.close()
