"""The parts that the gateway's speed is measured with: were they wrong, every figure would be."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from benchmarks.gateway import asked
from benchmarks.gateway.goals import GOALS, Round, judge
from benchmarks.gateway.processes import BenchmarkError, Cores, Process, wait_for_answer
from benchmarks.gateway.programs import Programs, compiled, told_aborts

CORE = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no C compiler: the benchmark's programs cannot be built")
    return compiled(tmp_path_factory.mktemp("benchmark"), CORE)


@pytest.fixture
def engine(programs: Programs) -> Iterator[str]:
    with programs.stub(["tiny:base", "tiny:alpha-0.4"]) as url:
        yield url


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_the_stub_answers_the_openai_client_as_vllm_does(engine: str) -> None:
    with openai.OpenAI(base_url=f"{engine}/v1", api_key="none", max_retries=0) as client:
        models = client.models.list().data
        assert [(model.id, model.owned_by) for model in models] == [("tiny:base", "vllm"), ("tiny:alpha-0.4", "vllm")]
        answer = client.chat.completions.create(
            model="tiny:base", messages=[{"role": "user", "content": "hi"}], max_tokens=10
        )
    assert answer.model == "tiny:base"
    assert answer.choices[0].message.content
    assert answer.choices[0].message.model_extra is not None
    assert answer.choices[0].message.model_extra["reasoning"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.completion_tokens, answer.usage.completion_tokens_details.reasoning_tokens) == (10, 5)


def test_a_stream_of_the_stub_has_a_chunk_a_token_then_finish_and_usage(engine: str) -> None:
    with openai.OpenAI(base_url=f"{engine}/v1", api_key="none", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="tiny:base",
                messages=[{"role": "user", "content": "hi"}],
                max_tokens=6,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    deltas = [chunk.choices[0].delta.model_dump(exclude_none=True) for chunk in chunks if chunk.choices]
    assert [next(iter(delta)) for delta in deltas[1:7]] == ["reasoning"] * 3 + ["content"] * 3
    assert len(chunks) == 1 + 6 + 1 + 1  # role, tokens, finish, usage
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_stub_puts_usage_into_every_chunk_when_asked_to(engine: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "tiny:base", "stream": True, "max_tokens": 4, "stream_options": options}
    text = httpx.post(f"{engine}/v1/chat/completions", json=body).text
    events = [line for line in text.splitlines() if line.startswith("data: {")]
    assert [f'"completion_tokens":{n},' in event for n, event in zip((0, 1, 2, 3, 4, 4, 4), events, strict=True)] == (
        [True] * 7
    )


def test_the_stub_keeps_to_the_pause_that_was_asked_for(programs: Programs, engine: str) -> None:
    request = asked.stream("tiny:base", "key", pause_ms=20, chunks=11)
    got = programs.load("burst", port_of(engine), request, connections=1, total=1)
    assert got["events"] == 1 + 11 + 1 + 1
    assert 200 <= got["latency"]["p50"] < 400  # ten pauses between eleven tokens


def test_a_client_that_left_is_told_by_its_name_and_time(programs: Programs, engine: str) -> None:
    request = asked.chat("tiny:base", "key", seed=5_000_000, stop=["whole-00000000"])
    got = programs.load("leave", port_of(engine), request, total=3, after_ms=20, every_ms=5)
    deadline = time.monotonic() + 5
    while len(told_aborts(engine)["aborted"]) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    told = dict(told_aborts(engine)["aborted"])
    assert sorted(told) == ["whole-00000000", "whole-00000001", "whole-00000002"]
    assert all(told[f"whole-{n:08d}"] >= left > 0 for n, left in enumerate(got["left"]))


def test_streams_held_open_are_open_at_once_and_live_to_the_end(programs: Programs, engine: str) -> None:
    request = asked.stream("tiny:base", "key", pause_ms=100, chunks=1000)
    got = programs.load("hold", port_of(engine), request, connections=100, seconds=20, after_ms=500)
    assert (got["most_open"], got["unfinished"], got["silent"], got["broken"]) == (100, 100, 0, 0)
    assert got["events"] >= 500
    assert told_aborts(engine)["most_open"] == 100


def test_streams_that_end_early_were_not_held(programs: Programs, engine: str) -> None:
    request = asked.stream("tiny:base", "key", pause_ms=10, chunks=5)
    got = programs.load("hold", port_of(engine), request, connections=10, seconds=20, after_ms=500)
    assert (got["completed"], got["unfinished"]) == (10, 0)


STREAM = b"".join(
    b"%x\r\n%s\r\n" % (len(event), event) for event in (b"data: {}\n\n", b"data: {}\r\n\r\n", b": ping\n\n")
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HEAD + STREAM + DONE, {"events": 2, "completed": 1, "bad": 0, "broken": 0}),
        (HEAD + STREAM + b"0\r\n\r\n", {"events": 2, "completed": 1, "bad": 1, "broken": 0}),
        (HEAD + STREAM, {"events": 2, "completed": 0, "bad": 0, "broken": 1}),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}", {"completed": 1, "bad": 1, "broken": 0}),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the close", {"completed": 1, "bad": 0, "broken": 0}),
    ],
)
def test_the_load_generator_reads_answers_that_come_byte_by_byte(
    programs: Programs, answer: bytes, expected: dict[str, int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_dribble, args=(listener, answer))
        serving.start()
        request = asked.stream("tiny:base", "key", pause_ms=0)
        got = programs.load("burst", listener.getsockname()[1], request, connections=1, total=1)
        serving.join(10)
    assert {name: got[name] for name in expected} == expected


def _dribble(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(65536)
        for byte in answer:
            connection.sendall(bytes([byte]))


def test_cpu_time_of_another_process_counts_what_it_computes(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        process = Process(popen, tmp_path / "log", 0.0)
        assert 0.3 <= process.cpu_seconds() < 0.5
        assert process.resident_mb() > 1
        popen.communicate(b"\n", timeout=20)


def test_a_router_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("no such option")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as popen:
        popen.wait(20)
        with pytest.raises(BenchmarkError, match="no such option"):
            wait_for_answer(Process(popen, log, time.monotonic()), 1, b"", 20)


@pytest.mark.parametrize("text", ["1", "1,1", "a,b", "9999,0"])
def test_cores_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(BenchmarkError, match="--cores"):
        Cores.parse(text)


def judged(what: str, *rounds: Round) -> Any:
    return judge(next(goal for goal in GOALS if goal.what == what), rounds)


def test_a_ratio_is_taken_within_each_round_and_its_median_judged() -> None:
    rounds = [
        {"alphatier": {"cpu_us_64": mine}, "vllm-router": {"cpu_us_64": its}}
        for mine, its in ((60.0, 50.0), (220.0, 200.0), (52.0, 40.0))
    ]
    got = judged("CPU a request, 64 connections", *rounds)
    assert got.values == pytest.approx((1.2, 1.1, 1.3))
    assert got.median == pytest.approx(1.2)
    assert got.verdict == "floor"


@pytest.mark.parametrize(("megabytes", "verdict"), [(60.0, "target"), (80.0, "floor"), (80.1, "MISSED")])
def test_limits_include_their_own_value(megabytes: float, verdict: str) -> None:
    assert judged("resident memory after load", {"alphatier": {"memory_mb": megabytes}}).verdict == verdict


def test_a_goal_without_its_peer_is_not_measured() -> None:
    assert judged("… against LiteLLM", {"alphatier": {"rps_64": 9999.0}}).verdict == "not measured"


def test_each_way_of_running_the_gateway_is_judged_by_its_own_figures() -> None:
    measured: Round = {"alphatier": {"memory_mb": 50.0}, "plain uvicorn": {"memory_mb": 90.0}}
    lines = [judge(goal, [measured]) for goal in GOALS if goal.what == "resident memory after load"]
    values = {line.goal.router: line.values for line in lines}
    assert values == {"alphatier": (50.0,), "alphatier, other Python": (), "plain uvicorn": (90.0,)}
