"""No body of 32 MiB keeps the gateway from its other clients for long, whatever is in it."""

import time

import pytest

from alphatier_server.dialects.chat import ChatDialect
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.efforts import READ_FIELDS
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import InvalidRequest
from alphatier_server.gateway.media import refuse_remote_media
from support.slow_bodies import ACCEPTED, REFUSED

SECONDS = 1.5
"""Of processor time. Far more than it takes (0.25, `benchmarks/slow_bodies.py`), and far less than it once took."""

TARGET = Target("tiny:a", "a")


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_large_body_is_read_searched_and_edited_at_once(name: str) -> None:
    raw = ACCEPTED[name]()
    started = time.thread_time()
    body = JsonObject(raw, READ_FIELDS, 64)
    refuse_remote_media(raw, body.values)
    sent = ChatDialect().engine_body(body, TARGET)
    assert time.thread_time() - started < SECONDS
    assert b'"model":"a"' in sent[:200]


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_would_cost_too_much_is_refused_at_once(name: str) -> None:
    raw = REFUSED[name]()
    started = time.thread_time()
    with pytest.raises((JsonError, InvalidRequest)):
        refuse_remote_media(raw, JsonObject(raw, READ_FIELDS, 64).values)
    assert time.thread_time() - started < SECONDS
