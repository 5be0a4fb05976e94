"""A process that runs stages: started, followed by its reports, ended with us. What runs in it is `run.worker`."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from alphatier_training.errors import TrainingError
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import worker_command
from alphatier_training.run.reporting import Report, Reporter, parse_report

STOP_SECONDS = 5.0
"""How long a process may take to end before it is killed."""

_LOG_LINES = 15
_LONGEST_LINE = 2**20


async def run_process(
    folder: RunFolder,
    stages: Sequence[str],
    report: Reporter,
    *,
    processes: int = 1,
    gpus: Sequence[str] = (),
    threads: int = 1,
    locks: Sequence[int] = (),
) -> None:
    """Run stages, in order, to their end in a process, or in a launcher's several that share them.

    Its output holds the reports and what a launcher prints, which goes into the log as all of its errors do. It ends
    when this is cancelled, and when its input does, which is never written to: so it outlives us in no case.

    Args:
        folder: The run's folder.
        stages: What it runs.
        report: Told how far they are.
        processes: That share the stages.
        gpus: The only GPUs that it sees; none for a CPU.
        threads: Of each process, unless a stage says otherwise.
        locks: Descriptors of locks, which it holds too.

    Raises:
        TrainingError: it failed; with its own message, or the end of its log.
    """
    path = folder.log(stages[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as log:
        process = await asyncio.create_subprocess_exec(
            *worker_command(folder.recipe(), folder.root, stages, processes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            pass_fds=tuple(locks),
            start_new_session=True,
            env=_environment(gpus, threads),
            limit=_LONGEST_LINE,
        )
        failures: list[Report] = []

        async def follow() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                told = parse_report(line)
                if told is None:
                    with suppress(OSError):  # the disk may be full, and the reports must still be read
                        log.write(line)
                elif told.failed:
                    failures.append(told)
                else:
                    report(told)

        following = asyncio.create_task(follow())
        try:
            await process.wait()
        finally:
            await _end(process)
            await following
    if process.returncode and failures:
        raise TrainingError(f"{failures[0].stage}: {failures[0].note}\nThe whole story is in {path}")
    if process.returncode:
        raise TrainingError(
            f"{', '.join(stages)}: the process {_ended(process.returncode)}. The end of its log, {path}:\n"
            f"{_tail(path)}\nRun the same command again to go on from the last checkpoint."
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process if it is still there; what outlived a launcher ends with the input, and the reports with it."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    with suppress(OSError):
        await process.stdin.wait_closed()


def _environment(gpus: Sequence[str], threads: int) -> dict[str, str]:
    """As many threads as told, its GPUs alone, and the same hashes every time."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return os.environ | dict.fromkeys(names, str(threads)) | quiet | seen | {"PYTHONHASHSEED": "0"}


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), by the system where memory ran out"
    return f"ended with status {status}"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
