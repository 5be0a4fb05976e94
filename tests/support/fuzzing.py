"""The gateway as a real process in front of an engine that keeps and sends raw bytes: for fuzzers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from support.families import small_family
from support.processes import Served, serving
from support.raw_engine import RawEngine, raw_engine, whole

CHAT = "/v1/chat/completions"
BODY = b'{"model":"toy","messages":[{"role":"user","content":"?"}]}'
ANSWER = orjson.dumps(
    {
        "id": "x",
        "model": "toy:careful",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }
)


@contextmanager
def fuzzed_gateway(folder: Path, *options: str) -> Iterator[tuple[Served, RawEngine]]:
    small_family(folder / "toy")
    # The engine fails on purpose and all the time; the gateway shall ask it nevertheless.
    (folder / "gateway.toml").write_text(
        "[replicas]\nbreaker_failures = 1000000\nbreaker_window = 1000\nbreaker_share = 1.0\n"
    )
    with raw_engine() as engine:
        engine.script = [whole(ANSWER)]
        arguments = ["--config", "gateway.toml", "--family", "toy", "--engine", engine.url, *options]
        with serving(folder, *arguments, logs=folder) as served:
            yield served, engine


def request(
    body: bytes = BODY,
    *,
    line: str = f"POST {CHAT} HTTP/1.1",
    headers: Sequence[str] = (),
    length: str | None = "content-length: {}",
) -> bytes:
    """A request's bytes; `length` None leaves out Content-Length."""
    lines = [line, "host: localhost", "content-type: application/json", *headers]
    if length is not None:
        lines.append(length.format(len(body)))
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


@contextmanager
def living(gateway: Served) -> Iterator[Served]:
    """Afterwards the process must run, and its log tell of no new fault of its own."""
    known = len(gateway.log.read_text())
    yield gateway
    assert gateway.process.poll() is None, "the gateway died"
    assert "Traceback" not in gateway.log.read_text()[known:]
