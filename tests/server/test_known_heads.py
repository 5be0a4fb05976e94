"""Heads that go past the parser: only those which the parser would read the same way; and requests in any pieces."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httptools
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphatier_server.accelerator.known_heads import KnownHeads
from support.fuzzing import ANSWER, BODY, fuzzed_gateway, request
from support.processes import Served
from support.raw_client import talk
from support.raw_engine import RawEngine, whole

HEAD = request(b"x" * 58, headers=["accept: */*", "x-efficiency-tier: terse", "connection: keep-alive"])[:-58]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"content-length: 5\r\n",
    b"Content-Length: 7",
    b"content-length: ",
    b"5",
    b"58",
    b"transfer-encoding: chunked\r\n",
    b"x-a: content-length: 5\r\n",
    b"\r\n content-length: 3",
    b"connection: close\r\n",
    b"\r\n\r\n",
    b"\x00",
    b"POST ",
    b"upgrade: websocket\r\n",
    b"expect: 100-continue\r\n",
    b"HTTP/1.0",
    b"+5",
]


class Parsed:
    """What llhttp makes of one request."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.body = b""
        self.complete = self.refused = False
        self.plain = False
        parser = httptools.HttpRequestParser(self)
        self._parser = parser
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refused = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        plain = self._parser.get_http_version() == "1.1" and not self._parser.should_upgrade()
        self.plain = plain and self._parser.get_method() == b"POST" and self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def others(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self.headers if header[0] != b"content-length"]


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """The head with some pieces of it replaced, doubled or taken out."""
    data = HEAD
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 0, 1, 2, 20]))
        data = data[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + data[end:]
    return data


@settings(max_examples=400, deadline=None)
@given(edited(), edited())
@example(HEAD, HEAD)
@example(HEAD, HEAD.replace(b"content-length: 58", b"Content-Length: 3"))
@example(HEAD.replace(b"accept", b"content-length: 5\r\naccept"), HEAD)
@example(HEAD.replace(b"connection: keep-alive", b"connection: close"), HEAD)
@example(b"\r\n" + HEAD, b"\r\n" + HEAD)
def test_what_is_found_is_what_the_parser_reads(learnt: bytes, asked: bytes) -> None:
    heads: KnownHeads[Parsed] = KnownHeads()
    first = Parsed(learnt)
    if first.plain:  # what the protocol asks before it lets a head be learnt
        heads.learn(learnt, first.headers, first)
    found = heads.find(asked + b"y" * 2000)
    if found is None:
        return
    known, length, start = found
    again = Parsed(asked[:start] + (b"y" * 2000)[:length] if length < 2000 else asked)
    assert again.url == known.url
    assert again.others == known.others
    assert int(dict(again.headers)[b"content-length"]) == length
    assert again.body == (b"y" * 2000)[:length] or length >= 2000
    assert again.plain
    assert start == asked.index(b"\r\n\r\n") + 4


def test_a_head_is_found_again_with_another_length_only() -> None:
    heads: KnownHeads[str] = KnownHeads()
    heads.learn(HEAD, Parsed(HEAD).headers, "first")
    assert heads.find(HEAD + b"abc") == ("first", 58, len(HEAD))
    assert heads.find(HEAD.replace(b": 58", b": 3") + b"abc") == ("first", 3, len(HEAD) - 1)
    assert heads.find(HEAD.replace(b"terse", b"other")) is None
    assert heads.find(HEAD[:-1]) is None


NEVER_KEPT = {
    "a client that waits for 100 Continue": ["expect: 100-continue"],
    "another framing": ["transfer-encoding: chunked"],
    "a second length": ["content-length: 58"],
    "a line that is no header": ["x-folded: a\r\n b"],
    "a bare line feed": ["x-a: b\nx-c: d"],
    "a bare carriage return": ["x-a: b\rc"],
    "an id that does not come again": ["x-request-id: 1"],
}


@pytest.mark.parametrize("name", NEVER_KEPT)
def test_a_head_with_two_readings_is_never_kept_even_if_a_parser_takes_it(name: str) -> None:
    lines = NEVER_KEPT[name]
    head = request(headers=lines)[: -len(BODY)]
    pairs = [line.partition(": ")[::2] for line in [*lines, "host: gateway", "content-type: x", "content-length: 58"]]
    heads: KnownHeads[str] = KnownHeads()
    heads.learn(head, [(key.encode(), value.encode()) for key, value in pairs], "kept")
    assert heads.find(head) is None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, RawEngine]]:
    folder: Path = tmp_path_factory.mktemp("known")
    with fuzzed_gateway(folder, "--client-timeout", "1", "--max-body-bytes", "100000") as pair:
        yield pair


def _body(text: str) -> bytes:
    return orjson.dumps({"model": "toy", "messages": [{"role": "user", "content": text}]})


def test_requests_with_a_known_head_arrive_whole_in_whatever_pieces(pair: tuple[Served, RawEngine]) -> None:
    gateway, engine = pair
    engine.clear()
    bodies = [BODY, _body("x" * 3000), BODY, _body("two\r\n\r\nPOST / HTTP/1.1\r\n\r\n"), _body("")]
    stream = b"".join(map(request, bodies))
    assert talk(gateway.url, stream, limit=8).statuses == [200] * 5  # from here on the head is known
    cuts = [[1], [40], [stream.index(b"\r\n\r\n") + 4], [200, 201, 3300], list(range(0, len(stream), 97))[1:]]
    for cut in cuts:
        engine.clear()
        places = [0, *cut, len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(places)]
        heard = talk(gateway.url, *pieces, limit=8, pause=0.002)
        assert heard.statuses == [200] * 5
        arrived = [orjson.loads(request.body)["messages"] for request in engine.requests]
        assert arrived == [orjson.loads(body)["messages"] for body in bodies]


def test_of_heads_that_come_in_one_read_each_is_known_as_itself(pair: tuple[Served, RawEngine]) -> None:
    gateway, engine = pair
    engine.clear()
    first, second = (request(headers=["accept: */*", f"x-efficiency-tier: {tier}"]) for tier in ("base", "terse"))
    assert talk(gateway.url, first + second, limit=8).statuses == [200] * 2
    assert talk(gateway.url, second, first, limit=8, pause=0.05).statuses == [200] * 2
    models = [orjson.loads(request.body)["model"] for request in engine.requests]
    assert models[0] != models[1]
    assert models[2:] == [models[1], models[0]]


def test_a_known_head_takes_nothing_that_an_unknown_one_does_not(pair: tuple[Served, RawEngine]) -> None:
    gateway, engine = pair
    assert talk(gateway.url, request(), request(), limit=8).statuses == [200, 200]
    engine.clear()
    too_large = request().replace(b"content-length: %d" % len(BODY), b"content-length: 100001")
    assert talk(gateway.url, too_large, limit=8).statuses == [413]
    late = talk(gateway.url, request()[:-10], limit=8)
    assert late.statuses == [408]
    assert late.closed
    assert engine.requests == []
    behind_close = talk(gateway.url, request(headers=["connection: close"]) + request(), limit=8)
    assert behind_close.statuses == [200]


def test_an_engine_may_change_its_answers_framing_at_any_time(pair: tuple[Served, RawEngine]) -> None:
    gateway, engine = pair
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    chunked = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)
    answers = [whole(ANSWER), whole(ANSWER), chunked, whole(ANSWER)]
    for answer in answers:
        engine.script = [answer]
        heard = talk(gateway.url, request(), limit=8)
        assert heard.statuses == [200]
        assert orjson.loads(heard.answers[0].body)["choices"][0]["message"]["content"] == "4"
