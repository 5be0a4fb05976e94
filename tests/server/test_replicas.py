"""The choice among replicas: balance, breakers, the retry budget, and the picture that other processes get."""

import contextlib
import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphatier_server.errors import NoEngine
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.breaker import Breaker
from alphatier_server.replicas.pool import Lease, Pool, Replica
from alphatier_server.replicas.retry_budget import WINDOW_SECONDS, RetryBudget
from alphatier_server.settings.replicas import PoolSettings

TERSE = ("toy", "terse")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gateway:
    """A pool with `count` replicas that are up, and a clock that stands still."""

    def __init__(self, count: int, **changes: object) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        chance = random.Random(7).random
        settings = PoolSettings.model_validate(changes)
        self.pool = Pool(self.metrics, settings, clock=self.clock, chance=chance)
        for index in range(count):
            self.pool.put(replica(f"engine-{index}"))

    def fail(self, times: int, name: str = "engine-0") -> None:
        """Let that replica fail this many requests."""
        others = [replica.name for replica in self.pool.replicas if replica.name != name]
        for _ in range(times):
            self.pool.lease(*TERSE, {}, others).close("failed")

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"alphatier_{name}", labels)


def replica(name: str, **changes: object) -> Replica:
    values = {"url": f"http://{name}", "family": "toy", "models": {"terse": "toy:terse"}, "up": True} | changes
    return Replica(name, **values)  # type: ignore[arg-type]


# --- choosing ---------------------------------------------------------------------------------------


def test_only_replicas_that_are_up_and_serve_the_tier_are_chosen() -> None:
    gateway = Gateway(1)
    gateway.pool.put(replica("down", up=False))
    gateway.pool.put(replica("other-tier", models={"base": "toy:base"}))
    gateway.pool.put(replica("other-family", family="tiny"))
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(50)} == {"engine-0"}
    with pytest.raises(NoEngine, match="careful") as caught:
        gateway.pool.lease("toy", "careful", {})
    assert caught.value.headers["retry-after"]


def test_a_change_is_seen_by_the_next_request() -> None:
    gateway = Gateway(2)
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(50)} == {"engine-0", "engine-1"}
    gateway.pool.set_up("engine-0", False)
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(50)} == {"engine-1"}
    gateway.pool.set_up("engine-0", True)
    gateway.pool.drain("engine-1")
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(50)} == {"engine-0"}
    gateway.pool.remove("engine-0")
    with pytest.raises(NoEngine):
        gateway.pool.lease(*TERSE, {})
    assert not gateway.pool.ready()  # a draining replica takes nothing


def test_of_two_replicas_the_less_busy_one_is_chosen() -> None:
    gateway = Gateway(2)
    leases = [gateway.pool.lease(*TERSE, {}) for _ in range(100)]
    assert Counter(lease.replica.name for lease in leases) == {"engine-0": 50, "engine-1": 50}


def test_two_choices_spread_far_more_evenly_than_one() -> None:
    # 1,000 requests on 10 replicas: one random choice each leaves the fullest at about 100 + 2 * sqrt(90) = 119
    gateway = Gateway(10)
    for _ in range(1000):
        gateway.pool.lease(*TERSE, {})
    counts = [replica.in_flight for replica in gateway.pool.replicas]
    assert sum(counts) == 1000
    assert max(counts) - min(counts) <= 6


def test_a_replica_that_was_tried_is_not_chosen_again() -> None:
    gateway = Gateway(3)
    assert gateway.pool.lease(*TERSE, {}, avoid={"engine-0", "engine-2"}).replica.name == "engine-1"
    with pytest.raises(NoEngine):
        gateway.pool.lease(*TERSE, {}, avoid={"engine-0", "engine-1", "engine-2"})


def test_requests_in_flight_are_counted_by_replica_and_by_model() -> None:
    gateway = Gateway(1)
    old = gateway.pool.lease(*TERSE, {})
    gateway.pool.set_models("engine-0", {"terse": "toy:terse@2"})
    new = gateway.pool.lease(*TERSE, {})
    assert gateway.pool.in_flight("engine-0") == 2
    assert gateway.pool.in_flight("engine-0", "toy:terse") == 1
    assert gateway.pool.in_flight("engine-0", "toy:terse@2") == 1
    assert gateway.metric("replica_requests_in_flight", replica="engine-0") == 2
    old.close("ok")
    old.close("failed")  # closing twice counts once
    assert gateway.pool.in_flight("engine-0", "toy:terse") == 0
    assert gateway.pool.in_flight("engine-0") == 1
    new.close("abandoned")
    assert gateway.metric("replica_requests_in_flight", replica="engine-0") == 0


def test_the_series_of_a_replica_go_with_it_even_when_its_last_request_ends_later() -> None:
    gateway = Gateway(1, breaker_failures=1)
    lease = gateway.pool.lease(*TERSE, {})
    gateway.pool.remove("engine-0")
    lease.close("failed")
    samples = [sample for metric in gateway.metrics.registry.collect() for sample in metric.samples]
    assert not [sample for sample in samples if "replica" in sample.labels]


# --- breakers ---------------------------------------------------------------------------------------


def test_failures_in_a_row_take_a_replica_out() -> None:
    gateway = Gateway(2, breaker_failures=3)
    gateway.fail(3)
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(50)} == {"engine-1"}
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 2
    assert gateway.metric("replica_ejections_total", replica="engine-0", by="breaker") == 1


def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    breaker = Breaker(PoolSettings(breaker_failures=3, breaker_share=0.9, breaker_window=100))
    for _ in range(50):
        assert not breaker.failed(0)
        assert not breaker.failed(0)
        breaker.succeeded()
    assert breaker.state == "closed"


def test_half_of_the_last_requests_failing_opens_it_too() -> None:
    breaker = Breaker(PoolSettings(breaker_failures=5, breaker_share=0.5, breaker_window=10))
    opened = []
    for _ in range(5):
        breaker.succeeded()
        opened.append(breaker.failed(0))
    assert opened == [False, False, False, False, True]


def test_clients_that_leave_say_nothing_about_the_engine() -> None:
    gateway = Gateway(1, breaker_failures=1)
    for _ in range(50):
        gateway.pool.lease(*TERSE, {}).close("abandoned")
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0


def test_an_open_breaker_lets_one_probe_through_and_closes_when_it_succeeds() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=10)
    gateway.fail(1)
    gateway.clock.now += 9.9
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(20)} == {"engine-1"}
    gateway.clock.now += 0.1
    probe = gateway.pool.lease(*TERSE, {})
    assert probe.replica.name == "engine-0"
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 1
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(20)} == {"engine-1"}
    probe.close("ok")
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0
    assert gateway.pool.lease(*TERSE, {}).replica.name == "engine-0"


def test_the_last_engine_of_a_tier_is_never_taken_out_by_failed_requests() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=100)
    gateway.fail(1)
    gateway.fail(10, "engine-1")
    assert gateway.metric("replica_ejections_total", replica="engine-0", by="breaker") == 1
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(20)} == {"engine-1"}


def test_an_engine_that_was_taken_out_is_asked_when_no_other_is_left() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=100)
    gateway.fail(1)
    gateway.pool.set_up("engine-1", False)
    assert gateway.pool.lease(*TERSE, {}).replica.name == "engine-0"


def test_each_failed_probe_doubles_the_wait_up_to_a_limit() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=1, breaker_longest=5)
    gateway.fail(1)
    (broken,) = (replica for replica in gateway.pool.replicas if replica.name == "engine-0")
    waits = []
    for _ in range(4):
        waits.append(broken.breaker.retry_at - gateway.clock.now)
        gateway.clock.now += waits[-1]
        probe = gateway.pool.lease(*TERSE, {})
        assert probe.replica is broken
        probe.close("failed")
    assert waits == [1, 2, 4, 5]


def test_a_probe_whose_client_left_is_followed_by_another() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=10)
    gateway.fail(1)
    gateway.clock.now += 10
    gateway.pool.lease(*TERSE, {}).close("abandoned")
    gateway.pool.lease(*TERSE, {}).close("ok")
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0


def test_a_probe_from_before_a_restart_is_not_the_probe_of_the_new_engine() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=10)
    gateway.fail(1)
    gateway.clock.now += 10
    old_probe = gateway.pool.lease(*TERSE, {})
    gateway.pool.set_up("engine-0", False)
    gateway.pool.set_up("engine-0", True)
    gateway.fail(1)
    gateway.clock.now += 10
    new_probe = gateway.pool.lease(*TERSE, {})
    old_probe.close("ok")
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 1  # half-open: the new probe decides
    new_probe.close("ok")
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0


def test_requests_from_before_the_breaker_opened_change_nothing() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=10)
    early = [gateway.pool.lease(*TERSE, {}) for _ in range(5)]
    gateway.fail(1)
    early[0].close("ok")
    for lease in early[1:]:
        lease.close("failed")
    gateway.clock.now += 10  # once, not doubled four times
    assert gateway.pool.lease(*TERSE, {}).replica.name == "engine-0"


def test_a_replica_that_went_and_came_back_starts_with_a_closed_breaker() -> None:
    gateway = Gateway(2, breaker_failures=1, breaker_backoff=10)
    gateway.fail(1)
    gateway.pool.set_up("engine-0", False)
    gateway.pool.set_up("engine-0", True)
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0
    gateway.fail(1)
    gateway.pool.put(replica("engine-0", up=False))
    gateway.pool.put(replica("engine-0", url="http://elsewhere"))
    assert gateway.metric("replica_breaker_state", replica="engine-0") == 0
    gateway.pool.lease(*TERSE, {}).close("ok")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["lease", "ok", "failed", "abandoned", "wait", "down", "up"]), st.integers(0, 9))
    )
)
def test_whatever_happens_a_broken_replica_has_at_most_one_probe_and_the_counts_come_out_even(
    steps: list[tuple[str, int]],
) -> None:
    gateway = Gateway(2, breaker_failures=2, breaker_backoff=3, breaker_longest=10)
    leases: list[Lease] = []
    for step, number in steps:
        name = f"engine-{number % 2}"
        if step == "lease":
            with contextlib.suppress(NoEngine):
                leases.append(gateway.pool.lease(*TERSE, {}))
        elif step == "wait":
            gateway.clock.now += number
        elif step in ("up", "down"):
            gateway.pool.set_up(name, step == "up")
        elif leases:
            leases.pop(number % len(leases)).close(step)  # type: ignore[arg-type]
        for known in gateway.pool.replicas:
            probing = [lease for lease in leases if lease.replica is known and known.breaker._awaits(lease._probe)]
            assert len(probing) == (known.breaker.state == "half_open")
            assert known.in_flight == sum(lease.replica is known for lease in leases)
            assert known.in_flight == sum(known.using.values())
    for lease in leases:
        lease.close("abandoned")
    gateway.clock.now += 100
    for name in ("engine-0", "engine-1"):
        gateway.pool.set_up(name, True)
    # nothing is stuck: two probes at most, and both replicas answer again
    first, second = gateway.pool.lease(*TERSE, {}), gateway.pool.lease(*TERSE, {})
    first.close("ok")
    second.close("ok")
    assert {gateway.pool.lease(*TERSE, {}).replica.name for _ in range(40)} == {"engine-0", "engine-1"}


# --- retries ----------------------------------------------------------------------------------------


def test_retries_may_be_a_fifth_of_the_requests_and_a_few_beside() -> None:
    clock = Clock()
    budget = RetryBudget(PoolSettings(retry_share=0.2, retry_minimum=1), clock)
    assert sum(budget.may_retry() for _ in range(100)) == 10  # 1 a second for ten seconds
    for _ in range(1000):
        budget.earn()
    assert sum(budget.may_retry() for _ in range(1000)) == 200
    clock.now += WINDOW_SECONDS
    assert sum(budget.may_retry() for _ in range(100)) == 10


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["earn", "retry", "wait"]), st.integers(1, 40)), max_size=60),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_in_no_ten_seconds_are_there_more_retries_than_the_budget(
    steps: list[tuple[str, int]], share: float, minimum: float
) -> None:
    clock = Clock()
    budget = RetryBudget(PoolSettings(retry_share=share, retry_minimum=minimum), clock)
    earned: list[int] = []
    retried: list[int] = []
    for step, number in steps:
        if step == "wait":
            clock.now += number / 7
        for _ in range(number):
            if step == "earn":
                budget.earn()
                earned.append(int(clock.now))
            elif step == "retry" and budget.may_retry():
                retried.append(int(clock.now))
                window = int(clock.now) - WINDOW_SECONDS
                requests = sum(second > window for second in earned)
                assert sum(second > window for second in retried) <= share * requests + minimum * WINDOW_SECONDS


# --- other processes --------------------------------------------------------------------------------


def test_a_worker_that_restores_a_snapshot_chooses_as_the_parent_would_and_keeps_its_own_counts() -> None:
    parent, worker = Gateway(2), Gateway(0)
    worker.pool.restore(json.loads(json.dumps(parent.pool.snapshot())))
    leases = [worker.pool.lease(*TERSE, {}) for _ in range(4)]
    parent.pool.drain("engine-0")
    parent.pool.put(replica("engine-2"))
    parent.pool.set_models("engine-1", {"terse": "toy:terse@2"})
    worker.pool.restore(json.loads(json.dumps(parent.pool.snapshot())))
    assert worker.pool.snapshot() == parent.pool.snapshot()
    assert worker.pool.in_flight("engine-0") == 2
    assert {worker.pool.lease(*TERSE, {}).replica.name for _ in range(30)} == {"engine-1", "engine-2"}
    parent.pool.remove("engine-0")
    worker.pool.restore(parent.pool.snapshot())
    for lease in leases:
        lease.close("ok")
    assert "engine-0" not in [replica.name for replica in worker.pool.replicas]


def test_who_listens_sees_which_addresses_are_left_so_that_connections_to_others_are_closed() -> None:
    gateway = Gateway(1)
    seen: list[set[str]] = []
    gateway.pool.on_change(lambda: seen.append({replica.url for replica in gateway.pool.replicas}))
    gateway.pool.put(replica("second-family", url="http://engine-0"))
    gateway.pool.put(replica("engine-0", url="http://restarted"))
    gateway.pool.remove("second-family")
    gateway.pool.remove("engine-0")
    assert seen == [{"http://engine-0"}, {"http://engine-0", "http://restarted"}, {"http://restarted"}, set()]


def test_several_changes_at_once_are_told_once() -> None:
    gateway = Gateway(1)
    told: list[list[dict[str, object]]] = []
    gateway.pool.on_change(lambda: told.append(gateway.pool.snapshot()))
    with gateway.pool.batch():
        gateway.pool.put(replica("engine-1"))
        gateway.pool.drain("engine-0")
    gateway.pool.set_up("engine-1", True)  # it is up: no change
    assert told == [gateway.pool.snapshot()]
