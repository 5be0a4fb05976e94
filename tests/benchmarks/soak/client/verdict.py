"""Judges a complete answer: is it what the plan asked for, and whose is it?"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from benchmarks.soak.client.answers import event, tokens_of, whole
from benchmarks.soak.client.seen import Seen
from benchmarks.soak.keys import REFUSALS
from benchmarks.soak.plan import Plan

_ODD = (KeyError, TypeError, AttributeError, IndexError)
"""What an answer of another shape than its API's makes Python raise."""


def judge(planned: Plan, seen: Seen, headers: Mapping[bytes, bytes], body: bytes) -> None:
    """Write the verdict into `seen`. `headers` are the answer's, names in lower case."""
    if headers.get(b"x-request-id") != planned.request_id.encode():
        seen.wrong(f"id {headers.get(b'x-request-id')!r}")
    elif not 200 <= seen.status < 300:
        seen.result = "error"
        _judge_error(planned, seen, headers, body)
    elif headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        _judge_stream(planned, seen, body)
    else:
        _judge_whole(planned, seen, body)


def count_tokens(planned: Plan, seen: Seen, body: bytes) -> None:
    """Count the pieces of text in a stream that its client left."""
    for data in _data(body):
        with contextlib.suppress(orjson.JSONDecodeError, *_ODD):  # the last event may be cut
            seen.tokens += sum(map(bool, event(planned.api, orjson.loads(data)).texts))


def _judge_error(planned: Plan, seen: Seen, headers: Mapping[bytes, bytes], body: bytes) -> None:
    try:
        error = orjson.loads(body)["error"]
        message = error["message"]
        if not isinstance(message, str):
            raise TypeError
    except (orjson.JSONDecodeError, *_ODD):
        seen.wrong(f"error body {body[:100]!r}")
        return
    fitting = (name for name, refusal in REFUSALS.items() if refusal.words in message)
    seen.reason = next((name for name in fitting if REFUSALS[name].status == seen.status), "")
    if seen.reason:
        _judge_refusal(planned, seen, headers, error)


def _judge_refusal(planned: Plan, seen: Seen, headers: Mapping[bytes, bytes], error: dict[str, Any]) -> None:
    """The API's own words for it, and when to ask again."""
    refusal = REFUSALS[seen.reason]
    anthropic = planned.api == "messages"
    if error.get("type" if anthropic else "code") != (refusal.type if anthropic else refusal.code):
        seen.wrong(f"refused for {seen.reason} with {error}")
    if refusal.status == 429 and not (int(headers.get(b"retry-after", b"0")) and b"retry-after-ms" in headers):
        seen.wrong(f"refused for {seen.reason} without a word when to ask again")


def _judge_whole(planned: Plan, seen: Seen, body: bytes) -> None:
    odd = planned.fault == "odd_answer"
    try:
        document = orjson.loads(body)
        if document["id"] != planned.request_id:
            seen.wrong(f"the answer of {document['id']!r}")
            return
        _take_usage(seen, document.get("usage"))
        texts = [] if odd else whole(planned.api, document).texts
    except (orjson.JSONDecodeError, *_ODD) as error:
        if planned.fault == "deep_json":
            seen.result = "ok"
            return
        seen.wrong(f"{type(error).__name__}: {body[:100]!r}")
        return
    seen.result = "ok"
    if not odd:
        _judge_text(planned, seen, texts)


def _judge_stream(planned: Plan, seen: Seen, body: bytes) -> None:
    if planned.manner == "stay" and not planned.stream:
        seen.wrong("a stream that was not asked for")
        return
    texts: list[str] = []
    ended = False
    for data in _data(body):
        if data == b"[DONE]":
            if seen.result == "broken":
                seen.wrong("[DONE] after an error event")
                return
            ended = ended or planned.api in ("chat", "completions")
            continue
        if ended:
            seen.wrong(f"after the end: {data[:100]!r}")
            return
        try:
            said = event(planned.api, orjson.loads(data))
        except (orjson.JSONDecodeError, *_ODD):
            if planned.fault in ("bad_utf8", "odd_answer"):
                continue
            seen.wrong(f"event {data[:100]!r}")
            return
        if said.id not in (None, planned.request_id):
            seen.wrong(f"an event of {said.id!r}")
            return
        texts += said.texts
        ended = said.ends
        _take_usage(seen, said.usage)
        if said.broken:
            seen.result = "broken"
    seen.tokens = sum(map(bool, texts))
    if ended and seen.result != "broken":
        seen.result = "ok"
        if planned.fault != "odd_answer":
            _judge_text(planned, seen, texts)
    # else: cut


def _data(body: bytes) -> Iterator[bytes]:
    """The data of each event that has any."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        _, found, data = (b"\n" + block).partition(b"\ndata: ")
        if found:
            yield data


def _judge_text(planned: Plan, seen: Seen, texts: list[str]) -> None:
    text = "".join(texts)
    if text != planned.text:
        seen.wrong(f"the text is {text[:60]!r}, {planned.tokens} tokens")


def _take_usage(seen: Seen, usage: Any) -> None:
    if isinstance(usage, dict):
        seen.completion_tokens, seen.reasoning_tokens = tokens_of(usage)
