"""Requests that no honest client sends, as bytes on a real socket, against the gateway as a real process.

Whatever comes: the gateway lives, answers or closes in time, answers in its error shape, and the engine sees
exactly the requests that the gateway accepted, without a header or a second request that a client smuggled in.
"""

import re
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fuzzing import (
    ANSWER,
    BODY,
    BOTH_WAYS,
    CHAT,
    WAYS,
    examples,
    living,
    module_pair,
    request,
)
from support.processes import Served
from support.raw_client import Heard, talk, talk_all
from support.raw_engine import STREAM_END, STREAM_HEAD, RawEngine, RawRequest, chunked, whole

CLIENT_TIMEOUT = 1.0
"""Seconds that the gateway gives a client to send its request."""
LIMIT = 8.0
"""Seconds after which a connection without an answer or an end counts as hung."""
SENT_UPSTREAM = {
    b"host", b"content-type", b"content-length", b"x-request-id", b"traceparent", b"tracestate",
    b"accept", b"accept-encoding", b"user-agent", b"connection", b"authorization",
}  # fmt: skip
MARK = b"smuggled"


pair = module_pair("fuzz", client_timeout=CLIENT_TIMEOUT, max_body_bytes=1_000_000)


@pytest.fixture
def gateway(pair: tuple[Served, RawEngine]) -> Served:
    return pair[0]


@pytest.fixture
def engine(pair: tuple[Served, RawEngine]) -> RawEngine:
    return pair[1]


@pytest.fixture(autouse=True)
def _sound(engine: RawEngine, gateway: Served) -> Iterator[None]:
    """Before each test the engine has seen nothing; after it the gateway lives."""
    engine.clear()
    with living(gateway):
        yield
    assert not engine.strange, f"the engine got {engine.strange[0]!r}"
    assert [r for r in engine.requests if not _clean(r)] == []


def _clean(request: RawRequest) -> bool:
    """Whether the engine was sent what the gateway composes, and nothing that a client made up."""
    names = [name for name, _ in request.headers]
    return (
        re.fullmatch(rb"POST /v1/(chat/completions|completions|responses|messages) HTTP/1.1", request.line)
        is not None
        and set(names) <= SENT_UPSTREAM
        and len(names) == len(set(names))
        and not any(MARK in name + value for name, value in request.headers if name != b"x-request-id")
    )


def check(heard: Heard) -> None:
    """What must hold of every answer to anything."""
    assert not heard.garbage, heard.garbage
    assert not heard.hung
    for answer in heard.answers:
        assert answer.complete
        assert answer.status < 500 or answer.status in (501, 505)
        if answer.status >= 400:
            assert answer.has_error_shape(), (answer.status, answer.headers, answer.body[:300])


SECOND = request(b'{"model":"toy","smuggled":1}', headers=["x-request-id: smuggled"])
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

REFUSED: dict[str, bytes] = {
    "Content-Length and Transfer-Encoding": request(CHUNKED_BODY + SECOND, headers=["transfer-encoding: chunked"]),
    "Transfer-Encoding and Content-Length": request(
        b"0\r\n\r\n" + SECOND, headers=["content-length: 5", "transfer-encoding: chunked"], length=None
    ),
    "two lengths that differ": request(BODY + SECOND, headers=["content-length: 3"]),
    "two lengths in one": request(headers=["content-length: 3, 3"], length=None),
    "a length with a sign": request(length="content-length: +{}"),
    "a negative length": request(length="content-length: -1"),
    "a length in hexadecimal": request(length="content-length: 0x10"),
    "a length with a blank inside": request(length="content-length: 5 8"),
    "a length past 64 bits": request(length="content-length: 184467440737095516160"),
    "a coding that is not known": request(headers=["transfer-encoding: xchunked"], length=None),
    "chunked twice": request(CHUNKED_BODY, headers=["transfer-encoding: chunked, chunked"], length=None),
    "chunked not last": request(CHUNKED_BODY, headers=["transfer-encoding: chunked, identity"], length=None),
    "Transfer-Encoding in HTTP/1.0": request(
        CHUNKED_BODY, line=f"POST {CHAT} HTTP/1.0", headers=["transfer-encoding: chunked"], length=None
    ),
    "a blank before the colon": request(headers=["transfer-encoding : chunked"]),
    "a folded header": request(headers=["x-efficiency-tier: base\r\n smuggled: 1"]),
    "a header without a colon": request(headers=["smuggled"]),
    "a header without a name": request(headers=[": smuggled"]),
    "a header name with a control character": request(headers=["x\x01: smuggled"]),
    "a header value with NUL": request(headers=["x-request-id: a\x00smuggled"]),
    "a header value with a bare CR": request(headers=["x-request-id: a\rsmuggled: 1"]),
    "a chunk size that is none": request(b"zz\r\n" + BODY, headers=["transfer-encoding: chunked"], length=None),
    "a chunk size past 64 bits": request(
        b"fffffffffffffffff\r\n" + BODY, headers=["transfer-encoding: chunked"], length=None
    ),
    "a chunk without its end": request(
        b"%x\r\n%bXX0\r\n\r\n" % (len(BODY), BODY), headers=["transfer-encoding: chunked"], length=None
    ),
    "no such version": request(line=f"POST {CHAT} HTTP/9.9"),
    "no version": request(line=f"POST {CHAT}"),
    "a blank too many": request(line=f"POST  {CHAT}  HTTP/1.1 "),
    "a method that is none": request(line=f"P@ST {CHAT} HTTP/1.1"),
    "a line break in the path": request(line=f"POST {CHAT}\rsmuggled HTTP/1.1"),
    "not HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03smuggled\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(
    name: str, gateway: Served, engine: RawEngine
) -> None:
    heard = talk(gateway.url, REFUSED[name], limit=LIMIT)
    check(heard)
    assert len(heard.answers) == 1
    assert 400 <= heard.statuses[0] < 500 or heard.statuses[0] in (501, 505)
    assert heard.closed, "a connection whose framing is in doubt must not be used again"
    assert engine.requests == []


TAKEN: dict[str, bytes] = {
    "plain": request(),
    "chunked": request(CHUNKED_BODY, headers=["transfer-encoding: chunked"], length=None),
    "chunked, with an extension": request(
        b"%x;smuggled=1\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), headers=["transfer-encoding: chunked"], length=None
    ),
    "chunked, with a trailer": request(
        b"%x\r\n%b\r\n0\r\nsmuggled: 1\r\n\r\n" % (len(BODY), BODY),
        headers=["Transfer-Encoding: Chunked"],
        length=None,
    ),
    "HTTP/1.0": request(line=f"POST {CHAT} HTTP/1.0"),
    "an absolute URL": request(line=f"POST http://elsewhere.example{CHAT} HTTP/1.1"),
    "another host": request(headers=["x-forwarded-host: smuggled", "x-forwarded-for: smuggled"]),
    "an upgrade to a WebSocket": request(
        headers=["connection: upgrade", "upgrade: websocket", "sec-websocket-key: x"]
    ),
    "an upgrade to HTTP/2": request(headers=["connection: Upgrade, HTTP2-Settings", "upgrade: h2c"]),
    "hop-by-hop headers": request(
        headers=["connection: keep-alive, x-request-id", "te: trailers", "trailer: smuggled"]
    ),
    "a query": request(line=f"POST {CHAT}?smuggled=1 HTTP/1.1"),
    "a leading line break": b"\r\n" + request(),
    "headers in capitals": request().replace(b"content-length", b"CONTENT-LENGTH"),
    "an id with a quote": request(headers=['x-request-id: "}smuggled']),
    "an id that is too long": request(headers=["x-request-id: " + "s" * 4000]),
    "an id with a tab": request(headers=["x-request-id: a\tsmuggled"]),
    "an id beyond ASCII": request(headers=["x-request-id: smuggled\udcff\udcfe"]),
    "two ids": request(headers=["x-request-id: one", "x-request-id: smuggled"]),
    "credentials": request(headers=["authorization: Bearer smuggled", "cookie: smuggled", "x-api-key: smuggled"]),
    "an escaped line break in the tier": request(headers=["traceparent: 00-1%0d%0asmuggled: 1"]).replace(MARK, b"s"),
}


@pytest.mark.parametrize(
    ("pair", "name"),
    # What asks for another protocol is the server's matter under plain ASGI.
    [(way, name) for way in WAYS for name in TAKEN if way == "accelerator" or "upgrade" not in name],
    indirect=["pair"],
    scope="module",
)
def test_an_odd_but_sound_request_reaches_the_engine_once_and_clean(
    name: str, gateway: Served, engine: RawEngine
) -> None:
    heard = talk(gateway.url, TAKEN[name], limit=LIMIT)
    check(heard)
    assert heard.statuses == [200]
    assert len(engine.requests) == 1
    assert orjson.loads(engine.requests[0].body)["messages"] == [{"role": "user", "content": "?"}]


PATHS = [
    "/v1/chat/../chat/completions", "/v1/chat/completions/..%2f..%2fadmin", "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/chat%2fcompletions", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/",
    "/v1/chat/completions%00", "/v1/chat/completions;x=1", "/v1/Chat/Completions", "/%", "/%zz", "*",
    "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%00", "/\\..\\..", "/" + "a" * 20_000, "http://", "http:///",
    "http://[::1", "x", "?", "#", "/v1/chat/completions#smuggled",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "PUT"])
def test_a_path_is_what_it_says_and_no_other(method: str, gateway: Served, engine: RawEngine) -> None:
    requests = [(request(line=f"{method} {path} HTTP/1.1"),) for path in PATHS]
    for path, heard in zip(PATHS, talk_all(gateway.url, requests, limit=LIMIT), strict=True):
        check(heard)
        assert heard.answers, path
        assert all(400 <= status < 500 for status in heard.statuses), (path, heard.statuses)
    assert engine.requests == []


def test_expect_100_continue_is_answered_before_the_body_comes(gateway: Served, engine: RawEngine) -> None:
    whole_request = request(headers=["expect: 100-continue"])
    head, body = whole_request[: -len(BODY)], whole_request[-len(BODY) :]
    heard = talk(gateway.url, head, body, limit=LIMIT, pause=0.2)
    check(heard)
    assert heard.statuses == [200]
    assert len(engine.requests) == 1


@BOTH_WAYS
def test_pipelined_requests_are_answered_in_order(gateway: Served, engine: RawEngine) -> None:
    names = [f"id-{number}" for number in range(10)]
    pipeline = b"".join(request(headers=[f"x-request-id: {name}"]) for name in names)
    heard = talk(gateway.url, pipeline, limit=LIMIT)
    check(heard)
    assert heard.statuses == [200] * 10
    assert [answer.headers[b"x-request-id"].decode() for answer in heard.answers] == names
    assert len(engine.requests) == 10


@BOTH_WAYS
def test_a_request_pipelined_behind_a_stream_waits_for_its_end(gateway: Served, engine: RawEngine) -> None:
    def script(request: RawRequest) -> list[bytes | float]:
        if b'"stream"' not in request.body:
            return [whole(ANSWER)]
        events = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        return [STREAM_HEAD, 0.1, chunked(events), 0.1, chunked(b"data: [DONE]\n\n") + STREAM_END]

    engine.script = script
    try:
        stream = request(b'{"model":"toy","stream":true}', headers=["x-request-id: first"])
        heard = talk(gateway.url, stream + request(headers=["x-request-id: second"]), limit=LIMIT)
        check(heard)
        assert [answer.headers[b"x-request-id"] for answer in heard.answers] == [b"first", b"second"]
        assert heard.answers[0].body.endswith(b"data: [DONE]\n\n")
        assert orjson.loads(heard.answers[1].body)["id"] == "x"
    finally:
        engine.script = [whole(ANSWER)]


def test_a_request_may_come_in_two_pieces_split_anywhere(gateway: Served, engine: RawEngine) -> None:
    whole_request = request(headers=["x-request-id: split", "x-efficiency-tier: terse"])
    for group in _groups([(whole_request[:cut], whole_request[cut:]) for cut in range(1, len(whole_request))], 32):
        for heard in talk_all(gateway.url, group, limit=LIMIT, pause=0.005):
            check(heard)
            assert heard.statuses == [200]
            assert heard.answers[0].headers[b"x-alphatier-tier"] == b"terse"
    assert len(engine.requests) == len(whole_request) - 1


@BOTH_WAYS
def test_a_request_may_come_byte_by_byte(gateway: Served, engine: RawEngine) -> None:
    heard = talk(gateway.url, *(bytes([byte]) for byte in request()), limit=LIMIT)
    assert heard.statuses == [200]


def test_a_request_that_never_ends_is_given_up_in_time(gateway: Served, engine: RawEngine) -> None:
    whole_request = request()
    cuts = (0, 1, 10, whole_request.index(b"\r\n\r\n"), len(whole_request) - 1)
    for heard in talk_all(gateway.url, [(whole_request[:cut],) for cut in cuts if cut], limit=CLIENT_TIMEOUT + 3):
        assert heard.closed
        assert all(answer.status == 408 and answer.has_error_shape() for answer in heard.answers)
    assert heard.statuses == [408]  # of the one whose head was whole
    assert engine.requests == []


def test_a_slow_loris_does_not_hold_its_connection(gateway: Served, engine: RawEngine) -> None:
    drops = [b"x-drop-%d: 1\r\n" % number for number in range(200)]
    heard = talk(gateway.url, b"POST /v1/chat/completions HTTP/1.1\r\n", *drops, limit=CLIENT_TIMEOUT + 4, pause=0.1)
    assert heard.closed
    trickle = [bytes([byte]) for byte in BODY]
    heard = talk(gateway.url, request()[: -len(BODY)], *trickle, limit=CLIENT_TIMEOUT + 4, pause=0.15)
    assert heard.closed
    assert engine.requests == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("one header of 2 MB", request(headers=["x-long: " + "l" * 2_000_000])),
        ("20,000 headers", request(headers=[f"x-{number}: 1" for number in range(20_000)])),
        ("a path of 2 MB", request(line=f"POST /{'p' * 2_000_000} HTTP/1.1")),
        ("a chunk extension of 2 MB", request(b"5;" + b"e" * 2_000_000,
                                              headers=["transfer-encoding: chunked"], length=None)),
        ("a trailer of 2 MB", request(CHUNKED_BODY[:-2] + b"t: " + b"t" * 2_000_000 + b"\r\n\r\n",
                                      headers=["transfer-encoding: chunked"], length=None)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_body_is_bounded(name: str, data: bytes, gateway: Served, engine: RawEngine) -> None:
    heard = talk(gateway.url, data, limit=LIMIT)
    assert heard.closed
    assert not heard.garbage
    assert all(400 <= answer.status < 500 and answer.has_error_shape() for answer in heard.answers)
    assert engine.requests == []


@BOTH_WAYS
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"model":"toy"}{"model":"toy"}',
        b'{"model":5}', b'{"model":null}', b'{"model":["toy"]}', b'{"model":"toy\\u0000"}', b'{"model":"\\ud800"}',
        b'{"model":"toy","stream":"yes"}', b'{"model":"toy","model":"toy:none"}',
        b'{"model":"toy:\\r\\nsmuggled: 1"}',
        b'{"model":"toy","efficiency_tier":{}}', b'{"model":"toy","reasoning_effort":7}',
        b'{"model":"toy","efficiency_tier":"terse","efficiency_tier":"base"}',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"model":"nowhere"}', b"[" * 900_000,
        b'{"model":"toy", "x":1e999999, "model":"nowhere"}', b'{"model":"' + b"x" * 500_000 + b'"}',
        b'{"model":"toy","x":NaN}',
        b"{\"model\":'toy'}",
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_body_that_is_wrong_is_told_so(path: str, body: bytes, gateway: Served, engine: RawEngine) -> None:
    heard = talk(gateway.url, request(body, line=f"POST {path} HTTP/1.1"), limit=LIMIT)
    check(heard)
    assert len(heard.answers) == 1
    assert heard.statuses[0] in (400, 404, 413), heard.answers[0].body[:200]
    assert engine.requests == []


def test_a_body_past_the_limit_is_refused_before_it_was_sent(gateway: Served, engine: RawEngine) -> None:
    declared = request(b"", length=None, headers=["content-length: 2000000"])
    streamed = request(b"80000\r\n" + b"x" * 0x80000 + b"\r\n80000\r\n" + b"x" * 0x80000 + b"\r\n",
                       headers=["transfer-encoding: chunked"], length=None)  # fmt: skip
    for heard in talk_all(gateway.url, [(declared,), (streamed,)], limit=LIMIT):
        check(heard)
        assert heard.statuses == [413]
        assert orjson.loads(heard.answers[0].body)["error"]["code"] == "body_too_large"
        assert heard.closed
    assert engine.requests == []


@BOTH_WAYS
@pytest.mark.parametrize("value", ["base", "nowhere", "terse, base", "", "\udcff", "%0d%0a", "a" * 5000, "toy:base"])
def test_a_tier_in_the_header_is_taken_or_refused(value: str, gateway: Served, engine: RawEngine) -> None:
    heard = talk(gateway.url, request(headers=[f"x-efficiency-tier: {value}"]), limit=LIMIT)
    check(heard)
    assert heard.statuses[0] in (200, 400, 404)


_PIECES = st.sampled_from(
    [
        b"POST ", b"GET ", CHAT.encode(), b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b":",
        b"host: x\r\n", b"content-length: ", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"chunked",
        b"0\r\n\r\n", b"5\r\nhello\r\n", b"connection: close\r\n", b"connection: upgrade\r\n", b"upgrade: h2c\r\n",
        b"expect: 100-continue\r\n", b"x-request-id: ", b"x-efficiency-tier: ", b"\x00", b"\xff", b" ", b"\t", b",",
        BODY, request(), SECOND, b"%2e%2e/", b"http://x/", b"/v1/models", b"/metrics", b"0", b"-", b"9" * 30,
    ]
)  # fmt: skip


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A good request with a few pieces of it replaced, doubled or taken out."""
    data = request(headers=["x-request-id: fuzz", "x-efficiency-tier: terse", "connection: keep-alive"])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 10, 1000]))
        data = data[:start] + draw(_PIECES | st.binary(max_size=8)) + data[end:]
    return data


def _begins(data: bytes) -> bool:
    """Whether a request has begun: a connection with nothing but line ends on it is idle."""
    return data.strip(b"\r\n") != b""


def _groups(items: list[tuple[bytes, ...]], size: int) -> Iterator[list[tuple[bytes, ...]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


MANY = st.lists(
    (_mutated() | st.lists(_PIECES, min_size=1, max_size=12).map(b"".join)).filter(_begins), min_size=20, max_size=40
)
fuzzed = settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))


@fuzzed
@given(MANY)
def test_no_bytes_at_all_crash_or_hang_it(gateway: Served, engine: RawEngine, many: list[bytes]) -> None:
    engine.clear()
    for heard, data in zip(talk_all(gateway.url, [(each,) for each in many], limit=LIMIT), many, strict=True):
        # A request that is not complete may be ended without a word.
        assert not heard.hung, data
        _check_any(heard, data)
        for answer in heard.answers:
            assert answer.status < 400 or not answer.complete or answer.has_error_shape() or b"HEAD" in data, (
                answer,
                data,
            )
    assert not engine.strange


@pytest.mark.parametrize("pair", ["asgi"], indirect=True, scope="module")
@fuzzed
@given(MANY)
def test_no_bytes_at_all_crash_it_under_plain_asgi(gateway: Served, engine: RawEngine, many: list[bytes]) -> None:
    """There the server refuses what is no HTTP, in its own words, and waits for heads as long as it likes."""
    engine.clear()
    conversations = talk_all(gateway.url, [(each,) for each in many], limit=CLIENT_TIMEOUT + 1.5)
    for heard, data in zip(conversations, many, strict=True):
        _check_any(heard, data)
    assert not engine.strange
    assert gateway.metric("alphatier_requests_in_flight") == 0


def _check_any(heard: Heard, data: bytes) -> None:
    assert not heard.garbage, (heard.garbage, data)
    for answer in heard.answers:
        assert answer.status < 500 or answer.status in (501, 505), (answer.status, data)
