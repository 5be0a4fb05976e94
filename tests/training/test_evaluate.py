"""`alphatier evaluate`: in this process and through an endpoint, resumed, and written into family.json."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_models import load_family
from alphatier_training.arithmetic.problems import generate
from alphatier_training.cli import evaluate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(evaluate, list(arguments))


def figures(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    tiers: dict[str, Any] = json.loads(result.stdout)["tiers"]
    return tiers


class Solver(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that solves every problem but runs out of tokens at level 1's."""

    requests: list[dict[str, Any]]
    answers: dict[str, tuple[str, int]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        answer, level = self.answers[body["messages"][0]["content"]]
        message = {"role": "assistant", "content": rf"\boxed{{{answer}}}"}
        reason = "length" if level == 1 else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = {"prompt_tokens": 5, "completion_tokens": 10 * level, "total_tokens": 5 + 10 * level}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        self._send(head | {"choices": [choice], "usage": usage})

    def _send(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    problems = generate(20, seed=7, split="heldout")
    requests: list[dict[str, Any]] = []
    answers = {problem.question: (problem.answer, int(problem.level)) for problem in problems}
    handler = type("Handler", (Solver,), {"requests": requests, "answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
        server.shutdown()
        thread.join()


def test_an_endpoint_is_measured_by_what_it_answers(
    trained: Path, tmp_path: Path, endpoint: tuple[str, list[dict[str, Any]]]
) -> None:
    url, requests = endpoint
    arguments = [str(trained), "--tier", "alpha-0.4", "--problems", "20", "--endpoint", url, "--out", str(tmp_path)]
    measured = figures(*arguments)["alpha-0.4"]
    # 4 problems of each of 5 levels; those of level 1 are right but truncated, hence wrong: 16 of 20.
    assert measured["accuracy"]["mean"] == 0.8
    assert measured["truncation_rate"] == 0.2
    assert measured["tokens"]["mean"] == 30  # (10 + 20 + 30 + 40 + 50) / 5
    assert {body["model"] for body in requests} == {"mini:alpha-0.4"}
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in requests} == {(0.6, 0.95, 48)}
    assert figures(*arguments)["alpha-0.4"] == measured
    assert len(requests) == 20  # the second time, everything was there


def test_an_endpoint_that_is_not_there_is_one_clear_message(trained: Path, tmp_path: Path) -> None:
    result = run(str(trained), "--tier", "base", "--endpoint", "http://127.0.0.1:9/v1", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "mini:base" in result.output
    assert "alphatier serve" in result.output


def test_the_training_runs_figures_come_out_again_in_process(trained: Path, tmp_path: Path) -> None:
    measured = figures(str(trained), "--tier", "alpha-0.4", "--problems", "600", "--out", str(tmp_path))["alpha-0.4"]
    expected = load_family(trained).tier("alpha-0.4").evaluation()
    assert expected is not None
    measured.pop("samples")
    assert measured == expected.model_dump(mode="json")


def test_an_interrupted_measurement_goes_on_to_the_same_result(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--problems", "30", "--out", str(tmp_path)]
    whole = figures(*arguments)["base"]
    path = Path(whole["samples"])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]) + lines[12][:20])
    assert figures(*arguments)["base"] == whole
    assert sorted(path.read_bytes().splitlines()) == sorted(line.strip() for line in lines)


def test_write_puts_the_figures_into_family_json(trained: Path, tmp_path: Path) -> None:
    family = tmp_path / "family"
    shutil.copytree(trained, family, ignore=shutil.ignore_patterns("work"))
    arguments = [str(family), "--tier", "base", "--problems", "25", "--out", str(tmp_path / "samples")]
    measured = figures(*arguments, "--write")["base"]
    written = load_family(family).tier("base").evaluation()
    assert written is not None
    assert written.problems == 25
    assert written.accuracy.model_dump() == measured["accuracy"]


def test_an_unknown_tier_lists_the_ones_there_are(trained: Path) -> None:
    result = run(str(trained), "--tier", "alpha-9")
    assert result.exit_code == 1
    assert "'alpha-9' is no tier of mini; the tiers are base, alpha-0, alpha-0.4" in result.output


def test_a_folder_without_a_family_is_one_clear_message(tmp_path: Path) -> None:
    result = run(str(tmp_path))
    assert result.exit_code == 1
    assert "there is no such file" in result.output


def test_commands_explain_themselves_without_torch() -> None:

    script = "import sys, alphatier_training.cli; print({'torch', 'trl', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
