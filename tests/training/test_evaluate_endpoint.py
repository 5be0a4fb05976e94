"""`alphatier evaluate --engine URL`, through OpenAI's own client against a server of the test's."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_training.cli import evaluate
from alphatier_training.evaluation.samples import SampleFile, read_plan
from alphatier_training.grading import is_correct
from alphatier_training.tiny.sums import generate

PROBLEMS = 24


@dataclass
class Solver:
    """Solves every problem, but runs out of tokens at level 1's; fails for good after `dies_after` answers."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[str, int]] = field(default_factory=dict)
    dies_after: int | None = None
    fails_first: int = 0
    answered: int = 0
    reply: dict[str, Any] | None = None
    thinking: str = "let me see"
    says: str = r"\boxed{%s}"
    probes: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """One for each time that somebody looked whether it is there."""
    mute: threading.Event | None = None
    """Nothing at all is answered until it is set."""

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(body)
        if self.fails_first > 0:
            self.fails_first -= 1
            return 503, {"error": {"message": "warming up"}}
        if self.dies_after is not None and self.answered >= self.dies_after:
            return 500, {"error": {"message": "out of order"}}
        self.answered += 1
        return 200, self.reply or self.completion(body)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        answer, level = self.answers[body["messages"][-1]["content"]]
        texts = [text.replace("%s", answer) for text in (self.says, self.thinking)]
        message = {"role": "assistant", **dict(zip(("content", "reasoning_content"), texts, strict=True))}
        choice = {"index": 0, "message": message, "finish_reason": "length" if level == 1 else "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 10 * level, "total_tokens": 5 + 10 * level}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return head | {"choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    """Hands requests to the server's solver."""

    @property
    def solver(self) -> Solver:
        solver: Solver = self.server.solver  # type: ignore[attr-defined]
        if solver.mute:
            solver.mute.wait(60)
        return solver

    def do_GET(self) -> None:
        self.solver.probes.release()
        self._send(404, {"error": {"message": "no such thing"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(*self.solver.answer(body))

    def _send(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def solver() -> Solver:
    problems = generate(PROBLEMS, seed=7, split="heldout")
    return Solver(answers={problem.question: (problem.answer, int(problem.level)) for problem in problems})


@pytest.fixture
def url(solver: Solver) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.solver = solver  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def run(family: Path, out: Path, url: str, *arguments: str) -> Result:
    fixed = [str(family), "--problems", str(PROBLEMS), "--engine", url, "--out", str(out), "--json"]
    return CliRunner().invoke(evaluate, [*fixed, *arguments])


def row(result: Result, name: str) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["datasets"]["arithmetic-heldout"]["rows"][name]
    return found


@pytest.mark.parametrize(
    ("thinking", "says", "accuracy"),
    [
        (r"so \boxed{%s}", "as above", 5 / 6),
        (r"so \boxed{%s}", r"\boxed{0.5}", 0.0),
        (r"\boxed{0.5}?", r"\boxed{%s}", 5 / 6),
    ],
)
def test_thinking_and_answer_are_graded_as_the_one_text_that_was_generated(
    tmp_path: Path, solver: Solver, url: str, thinking: str, says: str, accuracy: float
) -> None:
    solver.thinking, solver.says = thinking, says
    found = row(run(Path("models/tiny"), tmp_path, url, "--tier", "alpha-0.4"), "alpha-0.4")
    assert found["accuracy"]["mean"] == pytest.approx(accuracy)  # the last box of both; level 1 is cut off
    together = thinking.replace("%s", "4") + "\n" + says.replace("%s", "4")
    assert is_correct(together, "4") is (accuracy > 0)


def test_an_endpoint_is_measured_by_what_it_answers(trained: Path, tmp_path: Path, solver: Solver, url: str) -> None:
    measured = row(run(trained, tmp_path, url, "--tier", "alpha-0.4"), "alpha-0.4")
    # 4 problems of each of 6 levels; those of level 1 are right but truncated, hence wrong: 20 of 24.
    assert measured["accuracy"]["mean"] == pytest.approx(5 / 6)
    assert measured["truncation_rate"] == pytest.approx(1 / 6, abs=1e-6)
    assert measured["tokens"]["mean"] == 35  # (10 + 20 + 30 + 40 + 50 + 60) / 6
    assert measured["tokens_correct"]["mean"] == 40  # (20 + 30 + 40 + 50 + 60) / 5
    assert measured["tokens_wrong"]["mean"] == 10
    assert {body["model"] for body in solver.requests} == {"mini:alpha-0.4"}
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in solver.requests} == {(0.6, 0.95, 48)}
    assert row(run(trained, tmp_path, url, "--tier", "alpha-0.4"), "alpha-0.4") == measured
    assert len(solver.requests) == PROBLEMS  # the second time, everything was there


def test_thinking_that_comes_apart_from_the_answer_is_kept(trained: Path, tmp_path: Path, url: str) -> None:
    measured = row(run(trained, tmp_path, url, "--tier", "base"), "base")
    sample = SampleFile(read_plan(Path(measured["samples"])), tmp_path).read()[0]
    assert sample.reasoning == "let me see"
    assert sample.response == rf"\boxed{{{sample.answer}}}"


def test_an_endpoint_that_dies_loses_nothing_and_is_gone_on_with(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    solver.dies_after = 7
    failed = run(trained, tmp_path, url, "--tier", "base", "--retries", "0", "--concurrency", "2")
    assert failed.exit_code == 1
    assert "out of order" in failed.output
    assert "The samples taken are kept" in failed.output
    assert "Traceback" not in failed.output
    kept = next(tmp_path.glob("base-*.jsonl")).read_text().splitlines()
    assert len(kept) == 1 + 7  # the plan, and every answer that came
    solver.dies_after, solver.requests = None, []
    assert row(run(trained, tmp_path, url, "--tier", "base"), "base")["accuracy"]["mean"] == pytest.approx(5 / 6)
    assert len(solver.requests) == PROBLEMS - 7


def test_answers_under_way_when_another_request_fails_are_kept(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    answer, held = solver.answer, threading.Event()

    def slow_first(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        solver.dies_after = 1  # the first request is answered late, the second fails at once
        first = not solver.requests
        status, document = answer(body)
        if first:
            held.wait(0.5)  # nobody sets it: time for the client to take the failure
        return status, document

    solver.answer = slow_first  # type: ignore[method-assign]
    assert run(trained, tmp_path, url, "--tier", "base", "--retries", "0", "--concurrency", "2").exit_code == 1
    assert len(solver.requests) == 2
    assert len(next(tmp_path.glob("base-*.jsonl")).read_text().splitlines()) == 1 + 1


def test_an_answer_may_take_longer_than_the_server_may_be_silent(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    answer = solver.answer

    def long(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for _ in range(10):  # looked at four times in as long as it may be silent
            assert solver.probes.acquire(timeout=60)
        return answer(body)

    solver.answer = long  # type: ignore[method-assign]
    options = ["--timeout", "0.5", "--retries", "0", "--concurrency", "1", "--problems", "1"]
    assert row(run(trained, tmp_path, url, "--tier", "base", *options), "base")["problems"] == 1


def test_a_server_that_answers_nothing_at_all_is_one_clear_message(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    solver.mute = threading.Event()
    try:
        failed = run(trained, tmp_path, url, "--tier", "base", "--timeout", "1", "--concurrency", "1")
    finally:
        solver.mute.set()
    assert failed.exit_code == 1
    assert "has been silent for 1 s" in failed.output


def test_a_failure_that_passes_is_asked_again(trained: Path, tmp_path: Path, solver: Solver, url: str) -> None:
    solver.fails_first = 1
    result = run(trained, tmp_path, url, "--tier", "base", "--retries", "1", "--concurrency", "1")
    assert row(result, "base")["accuracy"]["mean"] == pytest.approx(5 / 6)
    assert len(solver.requests) == PROBLEMS + 1


def test_no_more_requests_are_in_flight_than_allowed(trained: Path, tmp_path: Path, solver: Solver, url: str) -> None:
    inside, most, gate = [0], [0], threading.Lock()
    answer = solver.answer

    def counted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with gate:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        try:
            return answer(body)
        finally:
            with gate:
                inside[0] -= 1

    solver.answer = counted  # type: ignore[method-assign]
    row(run(trained, tmp_path, url, "--tier", "base", "--concurrency", "3"), "base")
    assert 1 <= most[0] <= 3


def test_any_endpoint_can_be_asked_by_its_own_names(trained: Path, tmp_path: Path, solver: Solver, url: str) -> None:
    row(run(trained, tmp_path, url, "--tier", "alpha-0", "--endpoint-model", "served-{tier}"), "alpha-0")
    assert {body["model"] for body in solver.requests} == {"served-alpha-0"}


def test_prompt_and_system_message_reach_the_endpoint(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    solver.answers = {f"{question} \\boxed{{}}": answer for question, answer in solver.answers.items()}
    options = ["--prompt", "{question} \\boxed{{}}", "--system", "You add."]
    measured = row(run(trained, tmp_path, url, "--tier", "base", *options), "base")
    assert measured["prompt"] == "{question} \\boxed{{}}"
    assert solver.requests[0]["messages"][0] == {"role": "system", "content": "You add."}
    assert len(solver.requests[0]["messages"]) == 2


def test_ctrl_c_keeps_the_samples_and_says_how_to_go_on(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    hangs, answer = threading.Event(), solver.answer

    def stuck(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if solver.answered == 5:
            hangs.wait(60)
        return answer(body)

    solver.answer = stuck  # type: ignore[method-assign]
    command = [sys.executable, "-m", "alphatier_models.cli", "evaluate", str(trained), "--tier", "base"]
    options = [
        "--problems",
        str(PROBLEMS),
        "--concurrency",
        "1",
        "--endpoint",
        url,
        "--out",
        str(tmp_path),
    ]  # its older name
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while sum(path.read_text().count("\n") for path in tmp_path.glob("base-*.jsonl")) < 6:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    hangs.set()
    assert process.returncode == 130
    assert "Go on with the same command" in printed
    assert "Traceback" not in printed
    assert len(next(tmp_path.glob("base-*.jsonl")).read_text().splitlines()) == 6


@pytest.mark.parametrize("template", ["{family}:{level}", "{", "{0}"])
def test_a_template_with_other_fields_is_one_clear_message(trained: Path, tmp_path: Path, template: str) -> None:
    result = run(trained, tmp_path, "http://127.0.0.1:9/v1", "--endpoint-model", template)
    assert result.exit_code == 1
    assert "Only {family} and {tier} are replaced" in result.output


def test_an_endpoint_that_is_not_there_is_one_clear_message(trained: Path, tmp_path: Path) -> None:
    result = run(trained, tmp_path, "http://127.0.0.1:9/v1", "--tier", "base", "--retries", "0")
    assert result.exit_code == 1
    assert "mini:base" in result.output
    assert "alphatier serve" in result.output


def test_an_answer_without_usage_is_one_clear_message(
    trained: Path, tmp_path: Path, solver: Solver, url: str
) -> None:
    solver.reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": []}
    result = run(trained, tmp_path, url, "--tier", "base")
    assert result.exit_code == 1
    assert "tokens cannot be counted" in result.output
