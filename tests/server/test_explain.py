"""`alphatier explain`: one request from the gateway's log."""

import gzip
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_models import load_family
from alphatier_server.cli import explain
from alphatier_server.logs import LogWriter, RequestLog
from support.fake_engine import completion
from support.gateway import RunningGateway, pair
from support.routers import with_router

HARD = "What is 1 + 2 + 3 + 4?"


def run(*words: str, piped: bytes | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(explain, [*words], input=piped, catch_exceptions=False)


@asynccontextmanager
async def logging_gateway(toy: Path, log: Path) -> AsyncIterator[RunningGateway]:
    """A gateway of `toy` with a router, whose log is in the file once it has ended."""
    family = with_router(toy, load_family(toy))
    with log.open("ab") as stream:
        lines = RequestLog(LogWriter(stream.fileno()))
        async with pair({"toy": family}, completion(), folders={"toy": toy}, request_log=lines) as (gateway, _):
            yield gateway
        lines.flush()


async def ask(gateway: RunningGateway, request_id: str, body: dict[str, Any], **headers: str) -> int:
    message = {"messages": [{"role": "user", "content": HARD}]}
    sent = {"x-request-id": request_id, **headers}
    data = json.dumps({"model": "toy:auto", **message, **body})
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=data, headers=sent) as response:
        await response.read()
        return response.status


@pytest.fixture
async def log(toy: Path, tmp_path: Path) -> Path:
    """The log of four requests: of auto, of auto within few tokens, of an effort, and one that was refused."""
    file = tmp_path / "gateway.log"
    async with logging_gateway(toy, file) as gateway:
        assert await ask(gateway, "by-prompt", {"max_tokens": 200}, **{"X-Request-Timeout": "30"}) == 200
        assert await ask(gateway, "by-limit", {"max_tokens": 99}) == 200
        assert await ask(gateway, "by-effort", {"model": "toy", "reasoning_effort": "low"}) == 200
        assert await ask(gateway, "refused", {"model": "toy:base", "efficiency_tier": "\x1b" * 500}) == 400
    return file


def test_a_request_is_explained_from_what_it_asked_to_what_came(log: Path) -> None:
    told = json.loads(run("by-prompt", "--log", str(log), "--json").stdout)
    assert told["asked"] == {"model": "toy:auto", "max_tokens": 200, "x-request-timeout": "30"}
    assert [one["tier"] for one in told["candidates"]] == ["careful", "terse"]
    assert (told["chosen"]["tier"], told["chosen"]["decision"], told["otherwise"]) == ("careful", "auto", "terse")
    assert told["tokens"] == {"prompt_tokens": 5, "completion_tokens": 3, "reasoning_tokens": 2}
    assert told["seconds"]["duration_seconds"] > 0
    assert told["end"] == {"outcome": "ok", "status": 200}

    shown = run("by-prompt", "--log", str(log)).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert max(map(len, shown.splitlines())) <= 80
    # 99 points, less .1 for each of 80 tokens; 50, less .1 for each of 40
    assert any(line.endswith("careful ← 99.0 % 80 80 120 91.0") for line in lines)
    assert "terse 50.0 % 40 40 60 46.0" in lines
    assert "rule price: the most points of accuracy, less 0.1 for each token" in lines
    assert "chosen toy:careful, by auto; otherwise terse" in lines
    assert HARD not in shown


def test_a_limit_that_changed_the_choice_is_explained(log: Path) -> None:
    told = json.loads(run("by-limit", "--log", str(log), "--json").stdout)
    assert (told["chosen"]["tier"], told["otherwise"], told["limits"]) == ("terse", "careful", {"tokens": 99})
    assert told["rule"] == "budget: the best tier whose answers fit the tokens"


def test_an_effort_and_a_refusal_are_explained_too(log: Path) -> None:
    effort, refused = (json.loads(run(name, "--log", str(log), "--json").stdout) for name in ("by-effort", "refused"))
    assert effort["asked"] == {"model": "toy", "reasoning_effort": "low"}
    assert (effort["chosen"]["tier"], effort["candidates"]) == ("terse", [])
    assert refused["asked"] == {"model": "toy:base", "efficiency_tier": "\x1b" * 80}
    assert refused["rule"] == "none: it was refused before a tier was decided"
    assert refused["end"]["outcome"] == "client_error"
    assert "\x1b" not in run("refused", "--log", str(log)).stdout  # a client's text steers no terminal


def test_the_last_use_of_an_id_counts_wherever_the_log_is(log: Path, tmp_path: Path) -> None:
    lines = log.read_bytes()
    again = lines.replace(b'"completion_tokens":3', b'"completion_tokens":4')
    assert tokens(run("by-prompt", "--json", piped=b"2026-11-29T10:00:00Z stderr F " + again)) == 4
    assert tokens(run("by-prompt", "--log", "-", "--json", piped=lines + again)) == 4
    log.write_bytes(b"no JSON by-prompt {\n")
    for age, (name, text) in enumerate((("gateway.log.1", again), ("gateway.log.2.gz", gzip.compress(lines)))):
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert tokens(run("by-prompt", "--log", str(log), "--json")) == 4
    (tmp_path / "gateway.log.1").unlink()
    assert tokens(run("by-prompt", "--log", str(log), "--json")) == 3


def tokens(done: Result) -> int:
    assert done.exit_code == 0, done.output
    return int(json.loads(done.stdout)["tokens"]["completion_tokens"])


@pytest.mark.parametrize("id_", ["unknown", "by-prompt-2", "request"])
def test_an_unknown_id_is_one_line_with_what_to_look_at(log: Path, id_: str) -> None:
    done = run(id_, "--log", str(log))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: No request '{id_}' in {log}. The id is the answer's x-request-id")
    assert done.stderr.count("\n") == 1


def test_a_broken_archive_is_one_line(log: Path) -> None:
    broken = log.with_name("gateway.log.gz")
    broken.write_bytes(gzip.compress(log.read_bytes())[:-20])
    done = run("unknown", "--log", str(broken))
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"Error: The log {broken} cannot be read: ")
