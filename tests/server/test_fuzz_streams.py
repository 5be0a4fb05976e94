"""Streams that no healthy engine sends, as bytes through the gateway as a real process.

However the bytes are cut, a client gets the same events; whatever they say, it gets a whole stream with `[DONE]`,
or an error in OpenAI's shape and no `[DONE]`: never a bare cut, never a hang.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fuzzing import BOTH_WAYS, examples, living, module_pair, request
from support.processes import Served
from support.raw_client import Answer, talk, talk_all
from support.raw_engine import STREAM_END, STREAM_HEAD, Piece, RawEngine, RawRequest, chunked

pytestmark = BOTH_WAYS

LIMIT = 8.0
AT_ONCE = 32
PAUSE = 0.002
"""Seconds between two pieces, enough for the gateway to read the first one alone."""
ASK = b'{"model":"toy","stream":true,"stream_options":{"include_usage":true},"case":%d}'


def event(delta: dict[str, Any] | None, finish: str | None = None, tokens: int | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    document: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "model": "toy:careful"}
    document["choices"] = choices
    if tokens is not None:
        document["usage"] = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return b"data: " + orjson.dumps(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"
EVENTS = [
    event({"role": "assistant", "content": ""}, tokens=0),
    event({"reasoning": "2 + 2 \u2013 \U0001f914"}, tokens=1),
    event({"content": "data: \\n\\n[DONE]"}, tokens=2),
    event({"content": "vier"}, "stop", tokens=3),
    event(None, tokens=3),
]
STREAM = b"".join(EVENTS) + DONE


pair = module_pair("streams", engine_timeout=3.0)


@pytest.fixture
def gateway(pair: tuple[Served, RawEngine]) -> Iterator[Served]:
    with living(pair[0]) as gateway:
        yield gateway


@pytest.fixture
def engine(pair: tuple[Served, RawEngine]) -> Iterator[RawEngine]:
    engine = pair[1]
    yield engine
    engine.close = False


def framed(*pieces: bytes) -> list[Piece]:
    """A streamed answer, each piece a chunk, with pauses in between."""
    script: list[Piece] = [STREAM_HEAD, PAUSE]
    for piece in filter(None, pieces):
        script += [chunked(piece), PAUSE]
    return [*script, STREAM_END]


def ask(gateway: Served, engine: RawEngine, script: Sequence[Piece], body: bytes = ASK % 0) -> Answer:
    """The whole answer that a client gets when the engine sends this."""
    engine.script = script
    heard = talk(gateway.url, request(body), limit=LIMIT)
    assert not heard.garbage, heard.garbage
    assert len(heard.answers) == 1
    assert heard.answers[0].complete, "a bare cut"
    return heard.answers[0]


def ask_all(gateway: Served, engine: RawEngine, scripts: Sequence[Sequence[Piece]]) -> Iterator[tuple[int, Answer]]:
    """The same for many scripts at once."""

    def script(request: RawRequest) -> Sequence[Piece]:
        return scripts[orjson.loads(request.body)["case"]]

    engine.script = script
    for start in range(0, len(scripts), AT_ONCE):
        group = range(start, min(start + AT_ONCE, len(scripts)))
        conversations = [(request(ASK % case),) for case in group]
        for case, heard in zip(group, talk_all(gateway.url, conversations, limit=LIMIT), strict=True):
            assert not heard.garbage, (case, heard.garbage)
            assert len(heard.answers) == 1, case
            assert heard.answers[0].complete, (case, "a bare cut")
            yield case, heard.answers[0]


def payloads(stream: bytes) -> list[bytes]:
    """The data of each event, read as the standard says (WHATWG HTML, 9.2.6): what a browser would see."""
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found: list[bytes] = []
    data: list[bytes] = []
    for line in lines[:-1]:
        if not line and data:
            found.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return found


def ended_with_error(answer: Answer) -> bool:
    """Whether the client can see that something is wrong."""
    if answer.status != 200:
        return answer.status in (502, 504) and answer.has_error_shape()
    if answer.body.endswith(DONE):
        return False
    last = orjson.loads(payloads(answer.body)[-1])
    return isinstance(last["error"]["message"], str)


def is_whole(answer: Answer, text: str = "data: \\n\\n[DONE]vier") -> bool:
    """Whether it is a whole stream with this text."""
    *events, last = (each for each in payloads(answer.body) if each.strip())
    documents = [orjson.loads(each) for each in events]
    deltas = [choice["delta"] for document in documents for choice in document["choices"]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    assert {document["model"] for document in documents} == {"toy:careful"}
    assert documents[-1]["usage"]["completion_tokens"] == 3
    return answer.status == 200 and last == b"[DONE]" and said == text


def test_a_stream_cut_at_every_byte_gives_the_same_events(gateway: Served, engine: RawEngine) -> None:
    expected = ask(gateway, engine, framed(STREAM)).body
    assert expected.endswith(DONE)
    scripts = [framed(STREAM[:cut], STREAM[cut:]) for cut in range(1, len(STREAM))]
    for case, answer in ask_all(gateway, engine, scripts):
        assert answer.body == expected, (case, STREAM[max(0, case - 20) : case + 20])


def test_the_answers_own_framing_may_be_cut_at_every_byte(gateway: Served, engine: RawEngine) -> None:
    expected = ask(gateway, engine, framed(STREAM)).body
    wire = STREAM_HEAD + b"".join(chunked(each) for each in (*EVENTS, DONE)) + STREAM_END
    scripts: list[list[Piece]] = [[wire[:cut], PAUSE, wire[cut:]] for cut in range(1, len(wire))]
    for case, answer in ask_all(gateway, engine, scripts):
        assert answer.body == expected, case


def test_a_stream_may_come_byte_by_byte_and_all_at_once(gateway: Served, engine: RawEngine) -> None:
    expected = ask(gateway, engine, framed(STREAM)).body
    each: list[Piece] = [STREAM_HEAD, *(chunked(bytes([byte])) for byte in STREAM), STREAM_END]
    assert ask(gateway, engine, each).body == expected
    assert ask(gateway, engine, [STREAM_HEAD + chunked(STREAM) + STREAM_END]).body == expected


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_crlf_is_a_line_end_like_any_other(piece: int, gateway: Served, engine: RawEngine) -> None:
    stream = STREAM.replace(b"\n", b"\r\n")
    cuts = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    assert is_whole(ask(gateway, engine, [STREAM_HEAD, *map(chunked, cuts), STREAM_END]))


SOUND: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + STREAM,
    "comments": b": hello\n\n" + STREAM.replace(b"data: {", b": ping\n\ndata: {"),
    "a comment within an event": STREAM.replace(b"data: {", b": ping\ndata: {"),
    "other fields": STREAM.replace(b"data: {", b"event: chunk\nid: 7\nretry: 10\ndata: {"),
    "data without a blank": STREAM.replace(b"data: {", b"data:{"),
    "data in several lines": STREAM.replace(b'"id":"x",', b'"id":"x",\ndata: '),
    "blank lines": STREAM.replace(b"\n\n", b"\n\n\n\n"),
    "lone CR as line ends": STREAM.replace(b"\n", b"\r"),
    "no blank line at the end": STREAM[:-1],
    "no line end at the end": STREAM[:-2],
    "no [DONE]": b"".join(EVENTS),
    "[DONE] with blanks": STREAM.replace(b"[DONE]\n", b" [DONE] \n"),
    "twice [DONE]": STREAM + DONE,
    "events after [DONE]": STREAM + EVENTS[1] + DONE,
    "an empty event": b"data:\n\n" + STREAM,
    "a field without a colon": b"data\n\n" + STREAM,
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("piece", [5, 100_000])
def test_what_the_standard_allows_arrives_or_is_an_error(
    name: str, piece: int, gateway: Served, engine: RawEngine
) -> None:
    stream = SOUND[name]
    cuts = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    answer = ask(gateway, engine, [STREAM_HEAD, *map(chunked, cuts), STREAM_END])
    if name == "lone CR as line ends":  # allowed by the standard, sent by nobody
        assert ended_with_error(answer) or answer.body.endswith((b"[DONE]\r\r", b"[DONE]\n\n"))
    elif name == "no line end at the end" and ended_with_error(answer):
        pass  # by the standard the last event is not complete
    else:
        assert is_whole(answer)


ODD: dict[str, bytes] = {
    "broken UTF-8": b'data: {"id":"\xff\xfe\xc3","choices":[]}\n\n',
    "NUL": b'data: {"id":"\x00","choices":[]}\n\n\x00\n\n',
    "no JSON": b"data: <html>\n\n",
    "half a document": b'data: {"id":\n\n',
    "a list": b"data: [1, 2]\n\n",
    "a number": b"data: 7\n\n",
    "null": b"data: null\n\n",
    "choices that are no list": b'data: {"id":"x","choices":7}\n\n',
    "choices that are a string": b'data: {"id":"x","choices":"abc"}\n\n',
    "choices that are null": b'data: {"id":"x","choices":null,"usage":null}\n\n',
    "choices of anything": b'data: {"id":"x","choices":[1,null,"a",[],{}]}\n\n',
    "a delta that is none": b'data: {"id":"x","choices":[{"index":0,"delta":7}]}\n\n',
    "text that is a number": b'data: {"id":"x","choices":[{"index":0,"delta":{"content":7}}]}\n\n',
    "an index that is a list": b'data: {"id":"x","choices":[{"index":[],"delta":{"content":"a"}}]}\n\n',
    "usage that is a list": b'data: {"id":"x","choices":[],"usage":[1]}\n\n',
    "usage of strings": b'data: {"choices":[],"usage":{"prompt_tokens":"1","completion_tokens":"2"}}\n\n',
    "usage that is negative": b'data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":-2}}\n\n',
    "usage past 64 bits": b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%b}}\n\n'
    % (b"9" * 40),
    "usage with odd details": b'data: {"choices":[{"delta":{"reasoning":"a"}}],"usage":{"prompt_tokens":1,'
    b'"completion_tokens":2,"completion_tokens_details":[]}}\n\n',
    "deep nesting": b'data: {"x":' + b"[" * 5000 + b"]" * 5000 + b"}\n\n",
    "a huge event": b'data: {"id":"x","choices":[],"x":"' + b"h" * 4_000_000 + b'"}\n\n',
    "a huge line without an end": b"data: " + b"h" * 4_000_000,
    "metrics that are odd": b'data: {"id":"x","choices":[],"metrics":{"queue_time_ms":"soon"}}\n\n',
    "a model that is a list": b'data: {"id":"x","model":["m"],"choices":[]}\n\n',
    "an error": b'data: {"error":{"message":"out of memory"}}\n\n',
    "an error that is a string": b'data: {"error":"out of memory"}\n\n',
    "an error event": b'event: error\ndata: {"message":"out of memory"}\n\n',
    "an error of null": b'data: {"error":null,"choices":[]}\n\n',
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", [0, 2, 5])
def test_an_odd_event_leads_to_a_whole_stream_or_an_error(
    name: str, place: int, gateway: Served, engine: RawEngine
) -> None:
    stream = b"".join([*EVENTS[:place], ODD[name], *EVENTS[place:], DONE])
    answer = ask(gateway, engine, framed(stream))
    assert answer.body.endswith(DONE) or ended_with_error(answer), answer.body[-300:]
    if name.startswith("an error") and "null" not in name and "event" not in name:
        assert ended_with_error(answer)
    assert gateway.metric("alphatier_requests_in_flight") == 0


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("ending", ["in order", "without the last chunk", "amid an event", "nothing at all"])
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    cut: int, ending: str, gateway: Served, engine: RawEngine
) -> None:
    if cut == 4 and ending == "in order":
        return  # the last token has come: that is a whole stream without [DONE]
    part = b"".join(EVENTS[:cut])
    script: list[Piece] = [STREAM_HEAD, chunked(part)] if part else [STREAM_HEAD]
    if ending == "in order":
        script.append(STREAM_END)
    elif ending == "amid an event":
        script.append(chunked(EVENTS[cut][:20]))
    engine.close = ending != "in order"
    if ending == "nothing at all":
        script = [part[:cut]] if cut else []
    answer = ask(gateway, engine, script)
    assert ended_with_error(answer), (answer.status, answer.body[-300:])


_NOISE = st.sampled_from([b"\n", b"\n\n", b"\r\n\r\n", b"\r", b"data: ", b"data:", b"[DONE]", b"{", b"}", b'"', b"\\",
                          b'"usage":', b'"choices":', b'"model":', b"null", b"\x00", b"\xff", b"\xef\xbb\xbf", b":",
                          b"event: error\n", b'"error":{}', b'"finish_reason":"stop"', *EVENTS, DONE,
                          *ODD.values()])  # fmt: skip


@st.composite
def _mutated(draw: st.DrawFn) -> list[bytes]:
    data = STREAM
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 5, 60]))
        data = data[:start] + draw(_NOISE | st.binary(max_size=6)) + data[end:]
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=3)))
    return [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)])]


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_mutated(), min_size=20, max_size=30))
def test_any_bytes_become_a_whole_stream_or_an_error(
    gateway: Served, engine: RawEngine, many: list[list[bytes]]
) -> None:
    for case, answer in ask_all(gateway, engine, [framed(*pieces) for pieces in many]):
        assert answer.body.endswith(DONE) or ended_with_error(answer), (many[case], answer.body[-300:])
