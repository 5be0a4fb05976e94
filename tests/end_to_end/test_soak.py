"""The soak's short form: a few thousand requests against breaking engines; the long one is a command
(`python tests/benchmarks/soak`).
"""

from pathlib import Path

import pytest

from benchmarks.soak.plan import FAULTS, MANNERS, plan
from benchmarks.soak.soak import Options, Soak

REQUESTS = 3000


@pytest.mark.timeout(240)
def test_nothing_is_lost_while_engines_break_and_clients_leave(tmp_path: Path) -> None:
    figures = Soak(Options(requests=REQUESTS, clients=1, users=48), tmp_path).run(lambda done: None)
    assert figures.wrong == []
    assert sum(figures.results.values()) == REQUESTS
    assert figures.healthy_answered >= 0.95 * figures.healthy, "engines that can answer were not asked"
    assert figures.results["ok"] > REQUESTS / 2


def test_the_short_form_has_every_fault_and_every_manner_in_it() -> None:
    plans = [plan(0, number) for number in range(REQUESTS)]
    assert {each.fault for each in plans} == {"none", *FAULTS}
    assert {each.manner for each in plans} == set(MANNERS)
    assert any(each.deadline for each in plans)
    assert any(each.invalid for each in plans)
