"""What single steps of the gateway's hot path cost, each beside what it replaces, interleaved in one run.

    python tests/benchmarks/hot_path_steps.py

CPU time of this process in microseconds (median over rounds), and the ratio. No sockets: what the whole
gateway costs beside other routers is `python tests/benchmarks/gateway`.
"""

import statistics
import time
import uuid
from collections.abc import Callable

import orjson
import prometheus_client

from alphatier_models import Reasoning
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.efforts import READ_FIELDS
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.gateway.request import request_id
from alphatier_server.metrics.collector import Counters, Histograms, StoreCollector
from alphatier_server.metrics.definitions import SECONDS_BUCKETS
from alphatier_server.metrics.store import Store

ROUNDS = 15
CALLS = 2000
Step = tuple[str, Callable[[], object], Callable[[], object]]


def chunk(number: int, index: int = 0, logprobs: object = None) -> bytes:
    """A chunk of a stream as vLLM sends it with running usage."""
    choice = {"index": index, "delta": {"reasoning": f" word {number}"}, "logprobs": logprobs, "finish_reason": None}
    usage = {"prompt_tokens": 48, "total_tokens": 48 + number, "completion_tokens": number}
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny:a"}
    return b"data: " + orjson.dumps({**document, "choices": [choice], "usage": usage}) + b"\n\n"


def probabilities(number: int) -> object:
    """Log probabilities of one token."""
    tops = [{"token": f" {top}", "logprob": -number / 7 - top, "bytes": [32, 48 + top]} for top in range(5)]
    return {"content": [{"token": f" word {number}", "logprob": -number / 7, "bytes": None, "top_logprobs": tops}]}


def streams(name: str, events: list[bytes], **more: bool) -> Step:
    """Reading each chunk, against matching it with the stream's template."""
    relays = [ChunkRelay(Target("tiny:a", "a", Reasoning(), **more), learns=learns) for learns in (False, True)]
    at = [0, 0]

    def feed(which: int) -> object:
        at[which] = (at[which] + 1) % len(events)
        return relays[which].feed(events[at[which]])

    return f"a chunk, {name}: read / template", lambda: feed(0), lambda: feed(1)


def bodies() -> Step:
    """Reading a request's body and writing all of it anew, against changing two members and no other byte."""
    messages = [{"role": "user", "content": "What is 17 + 25 - 8? Think step by step. " * 10}]
    raw = orjson.dumps({"model": "tiny", "reasoning_effort": "low", "messages": messages, "max_tokens": 128})

    def anew() -> bytes:
        values = orjson.loads(raw)
        values["model"] = "tiny:alpha-0.4"
        del values["reasoning_effort"]
        return orjson.dumps(values)

    def edited() -> bytes:
        return JsonObject(raw, READ_FIELDS, 64).edited({"model": "tiny:alpha-0.4"}, ("reasoning_effort",))

    return "a request's body: written anew / edited", anew, edited


def metrics() -> Step:
    """A request's twelve observations: the library's metrics, looked up by label, against kept quick ones."""

    registry, new = prometheus_client.CollectorRegistry(), StoreCollector(Store())
    counter = prometheus_client.Counter("c", "C.", ("tier",), registry=registry)
    histogram = prometheus_client.Histogram("h", "H.", ("tier",), registry=registry)
    quick_counter = Counters(new, "c", "C.", "tier").labels("a")
    quick_histogram = Histograms(new, "h", "H.", "tier", bounds=SECONDS_BUCKETS).labels("a")

    def library() -> None:
        for _ in range(6):
            counter.labels("a").inc(3)
            histogram.labels("a").observe(0.3)

    def quick() -> None:
        for _ in range(6):
            quick_counter.inc(3)
            quick_histogram.observe(0.3)

    return "a request's metrics: library / quick", library, quick


def ids() -> Step:
    """A new request id."""
    return "a request id: uuid4 / getrandbits", lambda: uuid.uuid4().hex, lambda: request_id(None)


def microseconds(call: Callable[[], object]) -> float:
    """CPU microseconds a call."""
    started = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - started) / CALLS * 1e6


def main() -> None:
    """Measure all steps and print a line each."""
    print(f"{'step':52} {'before µs':>10} {'after µs':>10} {'ratio':>7}")
    chunks = (
        streams("n=1", [chunk(number) for number in range(100)]),
        streams("n=1, reasoning_content", [chunk(number) for number in range(100)], reasoning_content=True),
        streams("n=4", [chunk(number, index) for number in range(100) for index in range(4)]),
        streams("logprobs", [chunk(number, logprobs=probabilities(number)) for number in range(100)]),
    )
    for name, before, after in (*chunks, bodies(), metrics(), ids()):
        pairs = [(microseconds(before), microseconds(after)) for _ in range(ROUNDS)]
        slow, quick = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:52} {slow:10.2f} {quick:10.2f} {ratio:6.1f}x")


if __name__ == "__main__":
    main()
