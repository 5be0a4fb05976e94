"""Worker processes: started, followed by their reports, and stopped."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from alphatier_training.errors import StageError
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import worker_command
from alphatier_training.run.reporting import Report, Reporter, parse_report
from alphatier_training.run.worker import REPORTS

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOP_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""

_LOG_LINES = 15


class Worker:
    """One worker process, or a launcher with several, their reports passed on by a thread.

    The reports take a named pipe, as a launcher's processes inherit no descriptor. It ends when we and they close it.
    """

    def __init__(
        self,
        folder: RunFolder,
        stages: Sequence[str],
        report: Reporter,
        *,
        gpus: Sequence[str] = (),
        threads: int = 1,
        locks: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            folder: The run's folder.
            stages: What it runs, in order.
            report: Told how far they are.
            gpus: The only GPUs that it sees; none for a CPU.
            threads: Unless a stage says otherwise.
            locks: Descriptors of locks, which it holds too.
        """
        self.stages = stages
        self._report = report
        self._failure: Report | None = None
        self.log = folder.log(stages[0])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pipes = Path(tempfile.mkdtemp(prefix="alphatier-"))
        reading, writing = _named_pipe(self._pipes / "reports")
        self._writing: int | None = writing
        self._follower = threading.Thread(target=_follow, args=(reading, self._take), daemon=True)
        self._follower.start()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                worker_command(folder.recipe(), folder.root, stages),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(locks),
                start_new_session=True,
                env=_environment(self._pipes / "reports", gpus, threads),
            )

    def finish(self) -> None:
        """Join a process that has ended; StageError when it failed."""
        status = self.process.wait()
        self._close()
        if status and self._failure:
            raise StageError(f"{self._failure.stage}: {self._failure.note}\nThe whole story is in {self.log}")
        if status:
            raise StageError(
                f"{', '.join(self.stages)}: the process {_ended(status)}. The end of its log, {self.log}:\n"
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

    def _take(self, report: Report) -> None:
        """Pass a report on; the first one of a failure is kept for `finish`."""
        if not report.failed:
            self._report(report)
        elif self._failure is None:
            self._failure = report

    def _close(self) -> None:
        """Our ends first: processes that outlived their launcher end when their input does."""
        if self._writing is None:
            return
        if self.process.stdin is not None:
            self.process.stdin.close()
        os.close(self._writing)
        self._writing = None
        self._follower.join()
        shutil.rmtree(self._pipes, ignore_errors=True)


def first_ended(running: Sequence[Worker], tick: float = 0.2) -> Worker:
    """Wait until one of the workers, at least one, has ended."""
    while True:
        for worker in running:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(tick)
                return worker


@contextmanager
def signals_held() -> Iterator[None]:
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


def _environment(reports: Path, gpus: Sequence[str], threads: int) -> dict[str, str]:
    """As many threads as told, its GPUs alone, and the same hashes every time."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    counts = dict.fromkeys(names, str(threads))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return os.environ | counts | quiet | seen | {"PYTHONHASHSEED": "0", REPORTS: str(reports)}


def _named_pipe(path: Path) -> tuple[int, int]:
    """A pipe that other processes open by its path: our reading end, and a writing end that keeps it from ending."""
    os.mkfifo(path, 0o600)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    os.set_blocking(reading, True)
    return reading, writing


def _follow(reading: int, report: Reporter) -> None:
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                report(parse_report(line))


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), by the system where memory ran out"
    return f"ended with status {status}"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
