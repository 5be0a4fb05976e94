"""No field of a request sends an engine to an address of the client's choice."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_server.errors import InvalidRequest
from alphatier_server.gateway.media import refuse_remote_media

METADATA = "http://169.254.169.254/latest/meta-data/"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def chat(part: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]}


def check(body: dict[str, Any], *allowed: str) -> None:
    refuse_remote_media(orjson.dumps(body), body, allowed)


PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "image": lambda url: chat({"type": "image_url", "image_url": {"url": url}}),
    "image, short": lambda url: chat({"type": "image_url", "image_url": url}),
    "image, without type": lambda url: chat({"image_url": url}),
    "video": lambda url: chat({"type": "video_url", "video_url": {"url": url}}),
    "audio": lambda url: chat({"type": "audio_url", "audio_url": {"url": url}}),
    "responses' image": lambda url: {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
    },
    "responses' file": lambda url: {
        "input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]
    },
    "responses' screenshot": lambda url: {
        "input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": url}}]
    },
    "anthropic's image": lambda url: chat({"type": "image", "source": {"type": "url", "url": url}}),
    "anthropic's document": lambda url: chat({"type": "document", "source": {"type": "url", "url": url}}),
    "anthropic's tool result": lambda url: chat(
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}
    ),
    "anthropic's system": lambda url: {"system": [{"type": "image", "source": {"type": "url", "url": url}}]},
    "beside a tool call's input": lambda url: chat({"type": "tool_use", "input": {}, "image_url": {"url": url}}),
    "mcp server": lambda url: {"input": "x", "tools": [{"type": "mcp", "server_url": url}]},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("url", [METADATA, "file:///etc/passwd", "ftp://host/x", "//host/x", "", 7, ["data:"]])
def test_a_url_that_is_not_data_is_refused_wherever_engines_look(place: str, url: Any) -> None:
    with pytest.raises(InvalidRequest, match="only data: URLs") as error:
        check(PLACES[place](url))
    assert (error.value.status, error.value.code) == (400, "url_not_allowed")
    assert "169.254" not in error.value.message


@pytest.mark.parametrize("place", PLACES)
def test_data_urls_and_allowed_hosts_pass(place: str) -> None:
    check(PLACES[place](PIXEL))
    check(PLACES[place]("https://Cdn.example.org/a.png?x=1#y"), "*.example.org")
    check(PLACES[place]("http://example.org:8080/a.png"), "example.org")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org.evil.net/",
        "https://evilexample.org/",
        "https://example.org@evil.net/",
        "https://evil.net\\@example.org/",
        "https://evil.net/?example.org",
        "https://evil.net#@example.org/",
        "https://example.org\t.evil.net/",
        "https://example.org\n/",
        " https://example.org/",
        "https://example.org:80:90/",
        "https:example.org",
        "https:///example.org",
        "https://[::1]/",
        "https://\uff45xample.org/",
        "gopher://example.org/",
    ],
)
def test_no_spelling_of_another_host_passes_for_an_allowed_one(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"data: URLs and the hosts \*.example.org, example.org"):
        check(PLACES["image"](url), "example.org", "*.example.org")


def test_a_key_spelled_with_escapes_is_seen_too() -> None:
    raw = orjson.dumps(PLACES["image"](METADATA)).replace(b"image_url", b"image\\u005fur\\u006c")
    with pytest.raises(InvalidRequest):
        refuse_remote_media(raw.replace(b'"url"', b'"\\u0075rl"'), json.loads(raw))


@pytest.mark.parametrize(
    "body",
    [
        {"kv_transfer_params": {"remote_host": "10.0.0.1", "remote_port": 1}},
        {"ec_transfer_params": {"peer": "10.0.0.1"}},
        {"vllm_xargs": {"kv_transfer_params": "x"}},
    ],
)
def test_addresses_of_other_machines_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="names other machines"):
        check({"model": "toy", "messages": [], **body})


@pytest.mark.parametrize(
    "body",
    [
        chat({"type": "text", "text": f'see {METADATA} and "url"'}),
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"image_url": METADATA}}]}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"arguments": f'{{"url": "{METADATA}"}}'}}]}
            ]
        },
        {
            "input": [
                {"content": [{"type": "output_text", "annotations": [{"type": "url_citation", "url": METADATA}]}]}
            ]
        },
        {
            "tools": [
                {"type": "function", "function": {"parameters": {"properties": {"image_url": {"type": "string"}}}}}
            ]
        },
        {"metadata": {"url": METADATA, "image_url": METADATA}},
        chat({"type": "image_url", "image_url": None, "uuid": "cached"}),
        {"messages": "no list", "input": {"url": 3}, "tools": {"x": 1}, "system": None},
    ],
)
def test_words_that_nobody_fetches_pass(body: dict[str, Any]) -> None:
    check(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5) | st.just(METADATA),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "url", "image_url", "content", "source", "input", "text"]), inner)
    ),
    max_leaves=30,
)


@given(JSON)
def test_any_shape_is_passed_or_refused_and_never_breaks_the_gateway(value: Any) -> None:
    body = {"messages": value, "input": value, "tools": value, "vllm_xargs": value}
    with suppress(InvalidRequest):
        check(body)


def test_depth_costs_no_stack() -> None:
    nested: Any = {"image_url": METADATA}
    for _ in range(5000):
        nested = {"content": [nested]}
    with pytest.raises(InvalidRequest):
        refuse_remote_media(b'url"', {"messages": [nested]})
