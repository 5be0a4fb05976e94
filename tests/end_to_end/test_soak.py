"""The soak's short form: a few thousand requests against breaking engines; the long one is a command
(`python tests/benchmarks/soak`).
"""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.soak.audit import compare
from benchmarks.soak.books import Books, Sight
from benchmarks.soak.client.seen import Seen
from benchmarks.soak.figures import Options
from benchmarks.soak.keys import KEYS
from benchmarks.soak.limits import Stores, check_rates, check_streams
from benchmarks.soak.plan import APIS, FAULTS, MANNERS, plan
from benchmarks.soak.soak import Soak

REQUESTS = 3000


@pytest.mark.timeout(240)
def test_nothing_is_lost_while_engines_break_and_clients_leave(tmp_path: Path) -> None:
    figures = Soak(Options(requests=REQUESTS, clients=1, users=48), tmp_path).run(lambda done: None)
    assert figures.wrong == []
    assert sum(figures.results.values()) == REQUESTS
    assert figures.healthy_answered >= 0.95 * figures.healthy, "engines that can answer were not asked"
    assert figures.results["ok"] > REQUESTS / 2
    assert figures.answered.keys() == set(APIS)
    # Limits by the minute depend on the machine's speed; who is refused for good or for too much at once does not.
    sure = {"missing_api_key", "invalid_api_key", "revoked_api_key", "tier_not_allowed", "concurrent_streams"}
    assert figures.refused.keys() >= sure
    assert sum(figures.refused.values()) < REQUESTS / 5
    assert sum(figures.redis_faults.values()) > 0
    assert 0 < figures.requests_not_logged <= figures.log_lines_dropped


def test_the_short_form_has_every_fault_every_manner_every_api_and_every_key_in_it() -> None:
    plans = [plan(0, number) for number in range(REQUESTS)]
    assert {each.fault for each in plans} == {"none", *FAULTS}
    assert {each.manner for each in plans} == set(MANNERS)
    assert {(each.api, each.stream) for each in plans} == {(api, stream) for api in APIS for stream in (True, False)}
    assert {each.key for each in plans} == set(KEYS)
    assert any(each.deadline for each in plans)
    assert any(each.invalid for each in plans)
    assert {each.prompts for each in plans} == {1, 2, 3, 4}


def test_the_audit_notices_streams_over_a_keys_limit() -> None:
    books, within = Books(), Books()
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]
    check_streams(within, {"streams": spans})
    check_streams(books, {"streams": [*spans, (1.5, 1.8)]})
    assert (within.wrong, within.most_streams) == ([], {"streams": 2})
    assert books.wrong == ["3 streams of the key 'streams' were open at once, 2 may be"]


def test_the_audit_notices_requests_over_a_keys_rate_and_a_refusal_that_is_recorded_twice() -> None:
    books, within = Books(), Books()
    lines = [recorded(f"soak-0-{number}", replica="engine-0", key="requests") for number in range(20)]
    check_rates(within, lines, seconds=2.0)
    check_rates(books, lines, seconds=1.0)
    assert within.wrong == []
    assert books.wrong == ["20 requests of the key 'requests' got through, 15 may"]
    twice = [recorded("soak-0-1", error="rate_limited", outcome="client_error", key="requests")] * 2
    assert "soak-0-1 was recorded twice" in compare(0, [], twice, "", 1.0).wrong


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_the_audit_forgives_as_many_missing_lines_as_the_gateway_says_it_has_lost(dropped: int) -> None:
    healthy = (number for number in range(1000) if plan(0, number).manner == "stay" and not plan(0, number).invalid)
    seen = [sight(number) for number, _ in zip(healthy, range(2), strict=False)]
    metrics = (
        f'alphatier_requests_total{{outcome="ok",endpoint="x"}} 2\nalphatier_log_lines_dropped_total {dropped}\n'
    )
    wrong = compare(0, seen, [], metrics, 1.0).wrong
    unlogged = [text for text in wrong if "not logged" in text or "not recorded" in text]
    expected = {0: 3, 1: 1, 2: 0}  # both requests and their sum, the one too many, nothing
    assert len(unlogged) == expected[dropped], unlogged


def test_a_redis_that_breaks_gives_keys_as_much_as_there_were_stores_and_no_more() -> None:
    spans = [(0.0, 2.0)] * 4
    within, books, killed = Books(), Books(), Books()
    check_streams(within, {"streams": spans}, Stores())
    check_streams(books, {"streams": [*spans, (0.5, 1.0)]}, Stores())
    check_streams(killed, {"streams": [*spans, (0.5, 1.0)]}, Stores(redis_kills=1))
    assert (within.wrong, killed.wrong) == ([], [])
    assert books.wrong == ["5 streams of the key 'streams' were open at once, 4 may be"]


def sight(number: int) -> Sight:
    """What a client saw that was answered as it should be."""
    return dataclasses.asdict(Seen(number, result="ok", status=200))


def recorded(request_id: str, **members: str) -> dict[str, str | None]:
    """A line of the request log."""
    names = ("replica", "key", "error", "prompt_tokens", "completion_tokens", "reasoning_tokens")
    return {"request_id": request_id, "endpoint": "responses", "outcome": "ok", **dict.fromkeys(names), **members}
