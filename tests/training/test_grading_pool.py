"""The comparing processes: late, killed, forked, orphaned, interrupted; the others go on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from alphatier_training.grading.pool import Pool, Statistics
from support.processes import until

HANGS = "100000000!"
SECONDS = 60.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Two processes, the first of them up."""
    pool = Pool(limit=1.0, size=2)
    assert pool.equal(r"\sqrt{4}", "2")
    yield pool
    pool.close()


def fine(number: int) -> tuple[str, str]:
    return rf"\sqrt{{{number * number}}}", str(number)


def test_a_comparison_that_never_ends_is_cut_off_and_the_next_one_works(pool: Pool) -> None:
    started = time.monotonic()
    assert not pool.equal(HANGS, "3")
    assert 1 <= time.monotonic() - started < 5.5  # one second of processor time, at most five of the clock
    assert pool.equal(*fine(5))
    assert pool.statistics() == Statistics(compared=3, late=1, restarted=1)
    assert len(pool.pids()) == 1  # the late one is gone


@pytest.mark.parametrize(("hangs", "others"), [(6, 60), pytest.param(50, 200, marks=pytest.mark.slow)])
def test_comparisons_that_hang_delay_the_others_but_do_not_change_them(pool: Pool, hangs: int, others: int) -> None:
    hanging = [(f"{HANGS}+{number}", "3") for number in range(hangs)]
    right = [fine(number) for number in range(others)]
    step = others // hangs
    mixed = [pair for at in range(hangs) for pair in (hanging[at], *right[at * step : (at + 1) * step])]
    started = time.monotonic()
    verdicts = pool.are_equal(mixed + right)
    # Two at a time, each at most 5 s by the clock and as much for the start of the next process.
    assert time.monotonic() - started < 20 + hangs * (5 + 5) / 2
    assert not any(verdicts[pair] for pair in hanging)
    assert all(verdicts[pair] for pair in right)
    assert pool.statistics().late == hangs


def test_a_comparison_whose_process_is_killed_is_asked_again(pool: Pool) -> None:
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)  # so that the kill meets it with the question unanswered
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(pool.equal, *fine(7))
        until(lambda: pool.statistics().compared == 2, SECONDS)
        os.kill(pid, signal.SIGKILL)
        assert answer.result()
    assert pool.statistics() == Statistics(compared=2, late=0, restarted=1)
    assert pid not in pool.pids()


def test_a_comparison_that_kills_its_process_twice_is_wrong() -> None:
    pool = Pool(limit=SECONDS, size=1)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(pool.equal, HANGS, "3")
        killed: set[int] = set()
        for _ in range(2):
            until(lambda: bool(set(pool.pids()) - killed), SECONDS)
            (pid,) = set(pool.pids()) - killed
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        assert not answer.result()
    assert pool.statistics() == Statistics(compared=1, late=0, restarted=2)
    assert pool.equal(*fine(3))
    pool.close()


def test_a_process_that_is_killed_between_comparisons_is_replaced(pool: Pool) -> None:
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    assert pool.equal(*fine(8))


def test_many_threads_share_the_processes(pool: Pool) -> None:
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda number: pool.equal(*fine(number)), range(40)))
    assert verdicts == [True] * 40
    assert len(pool.pids()) <= 2


def test_a_comparison_works_outside_the_main_thread() -> None:
    pool, verdicts = Pool(limit=SECONDS, size=1), list[bool]()
    thread = threading.Thread(target=lambda: verdicts.append(pool.equal(*fine(9))))
    thread.start()
    thread.join()
    assert verdicts == [True]
    pool.close()


FORKS = r"""
import os
from alphatier_training.grading.pool import Pool
pool = Pool(limit=60, size=1)
assert pool.equal(r"\sqrt{4}", "2")
pids = pool.pids()
child = os.fork()
if child == 0:
    assert pool.pids() == []
    assert pool.equal(r"\sqrt{9}", "3")
    assert pool.pids() != pids
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert pool.equal(r"\sqrt{16}", "4")
assert pool.pids() == pids
print(*pids)
"""

HANGING = r"""
from alphatier_training.grading.pool import Pool
pool = Pool(limit={limit}, size=1)
assert pool.equal(r"\sqrt{{4}}", "2")
print(*pool.pids(), flush=True)
pool.equal("{given}", "3")
input()
"""


def script(text: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", text]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_forked_child_has_processes_of_its_own_and_leaves_the_parents_alone() -> None:
    with script(FORKS) as process:
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
    until(lambda: not psutil.pid_exists(int(output)), SECONDS)


@pytest.mark.parametrize("given", [HANGS, "2"], ids=["comparing", "idle"])
def test_no_process_is_left_when_the_one_that_started_it_is_killed(given: str) -> None:
    with script(HANGING.format(limit=2, given=given)) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert psutil.pid_exists(pid)
        process.kill()
        until(lambda: not psutil.pid_exists(pid), 20)


def test_ctrl_c_during_a_comparison_ends_at_once_and_leaves_no_process() -> None:
    with script(HANGING.format(limit=60, given=HANGS)) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert errors.strip().endswith("KeyboardInterrupt")
    until(lambda: not psutil.pid_exists(pid), 20)
