"""The requests that the load generator sends, as bytes. stub.h says what `seed` and `max_tokens` do."""

import json
from typing import Any

PROMPT = (
    "A shop sells seven red balls for three coins each and five blue balls for two coins each. Anna buys two red "
    "balls and four blue ones, pays with a note of fifty coins and is given her change. She then gives a third of it "
    "to her brother and puts the rest into a box. How many coins are in the box? Think step by step, check the sum "
    "once more, and put the final answer into \\boxed{}."
)


def chat(model: str, key: str, **fields: Any) -> bytes:
    """One chat completion over HTTP/1.1 with keep-alive, some 600 bytes of body; the same for every router."""
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": model, "messages": messages, "temperature": 0.6, **fields}
    payload = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        f"content-type: application/json\r\nauthorization: Bearer {key}\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def stream(model: str, key: str, *, pause_ms: float, chunks: int = 128, **fields: Any) -> bytes:
    """A streamed one, usage asked for; the stub sends a chunk each pause_ms."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return chat(model, key, seed=int(pause_ms * 1000), max_tokens=chunks, **options, **fields)
