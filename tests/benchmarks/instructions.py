"""Instructions that the gateway's process executes for a request and for a chunk, outside the kernel.

    python tests/benchmarks/instructions.py           # needs valgrind: apt-get install valgrind; a minute
    python tests/benchmarks/instructions.py --asgi    # under plain uvicorn

Valgrind counts them, so a busy machine does not matter, and a change of two per cent shows; seconds are what
`python tests/benchmarks/gateway` tells. What is done by the clock, not by request, is taken out: it is the same in a
short and in a long load, and only the difference counts.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gateway import asked
from benchmarks.gateway.processes import free_port, running, wait_for_answer
from benchmarks.gateway.programs import Programs, compiled
from benchmarks.gateway.targets import MODELS, Address, Target, gateways

CORE = min(os.sched_getaffinity(0))
LOADS = {"a request": (500, 3500), "a chunk": (16, 112)}
"""How many requests the short and the long load have."""


@click.command()
@click.option("--asgi", is_flag=True, help="Under plain uvicorn, without the accelerator.")
def main(asgi: bool) -> None:
    """Count the instructions of the gateway's process for a request and for a chunk of a stream."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine, programs = gateways(folder), compiled(folder, CORE)
        target = mine.targets[1 if asgi else 0]
        click.echo(f"{target.name}: outside the kernel")
        requests = {
            "a request": asked.chat("tiny", mine.key, reasoning_effort="low"),
            "a chunk": asked.stream("tiny", mine.key, pause_ms=1, reasoning_effort="low"),
        }
        for what, (few, many) in LOADS.items():
            (spent, parts), (more, all_parts) = (
                counted(target, mine.key, programs, folder, requests[what], number) for number in (few, many)
            )
            click.echo(f"{what:10} {(more - spent) / (all_parts - parts):10,.0f} instructions")


def counted(
    target: Target, key: str, programs: Programs, folder: Path, request: bytes, number: int
) -> tuple[int, int]:
    """Instructions for so many requests, and into how many answers or chunks they are divided."""
    with programs.stub(MODELS) as engine:
        at = Address(free_port(), engine, key, folder)
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
        program = target.command(at)
        python = [] if program[0] == sys.executable else [sys.executable]  # valgrind follows no script's first line
        environment = {"PYTHONHASHSEED": "0", **target.environment}
        with running([*tool, *python, *program], CORE, folder / "gateway.log", environment) as process:
            wait_for_answer(process, at.port, asked.chat("tiny", key), 120)
            programs.load("closed", at.port, request, connections=16, seconds=100, total=64)  # warm
            _control(process.popen.pid, "--instr=on")
            got = programs.load("closed", at.port, request, connections=16, seconds=100, total=number)
            _control(process.popen.pid, "--dump")
    dumped = max(folder.glob("counts.*"), key=lambda file: file.stat().st_mtime)
    found = re.search(r"^(?:totals|summary): (\d+)", dumped.read_text(), re.M)
    assert found is not None, "valgrind wrote no total"
    assert not got["bad"], got
    dumped.unlink()
    return int(found[1]), got["events"] or got["completed"]


def _control(pid: int, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
