"""Running a wave of worker processes: start, follow their reports, and stop all of them if anything ends badly."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alphatier_training.errors import StageError
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Reporter, parse_report
from alphatier_training.run.worker import REPORTS

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOP_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""

_LOG_LINES = 15


class Worker:
    """One worker process, its reports passed on by a thread."""

    def __init__(self, folder: RunFolder, stages: Sequence[str], lock: int, report: Reporter) -> None:
        self.stages = stages
        self.log = folder.log(stages[0])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "alphatier_training.run.worker", str(folder.root), *stages],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing, lock),
                start_new_session=True,
                env=_environment(writing),
            )
        os.close(writing)
        self._follower = threading.Thread(target=_follow, args=(reading, report), daemon=True)
        self._follower.start()

    def finish(self) -> None:
        """Join a process that has ended; StageError when it failed."""
        status = self.process.wait()
        self._close()
        if status:
            raise StageError(
                f"{', '.join(self.stages)}: the process ended with status {status}. The end of its log, {self.log}:\n"
                f"{_tail(self.log)}\nRun the same command again to go on from the last checkpoint."
            )

    def stop(self) -> None:
        """End the process, if it is still there, and wait for it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self) -> None:
        self._follower.join()
        if self.process.stdin is not None:
            self.process.stdin.close()


def run_wave(folder: RunFolder, processes: Sequence[Sequence[str]], lock: int, report: Reporter) -> None:
    """Run lists of stages, each in a process, all at once; whatever happens, none is left when this ends.

    Raises:
        StageError: one of them failed; the others have been stopped.
    """
    running: list[Worker] = []
    try:
        for stages in processes:
            with _signals_held():
                running.append(Worker(folder, stages, lock, report))
        _wait(running)
    finally:
        for worker in running:
            worker.stop()


def _wait(running: list[Worker], tick: float = 0.2) -> None:
    """Wait for all workers, taking the ended ones off the list; the first failure is raised at once."""
    while running:
        for worker in list(running):
            try:
                worker.process.wait(tick)
            except subprocess.TimeoutExpired:
                continue
            running.remove(worker)
            worker.finish()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end of the block, so that no process is started without being known.

    The handlers are changed rather than the mask, which holds for one thread only and would be inherited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread
        return
    caught: list[int] = []
    old = {number: signal.signal(number, lambda got, frame: caught.append(got)) for number in HELD_SIGNALS}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt


def _environment(reports: int) -> dict[str, str]:
    """One thread a process unless a stage says otherwise, nothing fetched, the same hashes every time."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
    return os.environ | threads | quiet | {"PYTHONHASHSEED": "0", REPORTS: str(reports)}


def _follow(reading: int, report: Reporter) -> None:
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                report(parse_report(line))


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
