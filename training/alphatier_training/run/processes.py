"""Worker processes: started, followed by their reports, and stopped. What runs in one is `run.worker`."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from alphatier_training.errors import TrainingError
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import worker_command
from alphatier_training.run.reporting import Report, Reporter, parse_report

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOP_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""

_LOG_LINES = 15


class Worker:
    """One worker process, or a launcher with several, their reports passed on by a thread.

    Its output holds the reports and what a launcher prints, which goes into the log as all of its errors do. It ends
    when its input does, which is never written to: so no worker outlives us, however we end.
    """

    def __init__(
        self,
        folder: RunFolder,
        stages: Sequence[str],
        report: Reporter,
        *,
        processes: int = 1,
        gpus: Sequence[str] = (),
        threads: int = 1,
        locks: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            folder: The run's folder.
            stages: What it runs, in order.
            report: Told how far they are.
            processes: That share the stages.
            gpus: The only GPUs that it sees; none for a CPU.
            threads: Unless a stage says otherwise.
            locks: Descriptors of locks, which it holds too.
        """
        self.stages = stages
        self._report = report
        self._failure: Report | None = None
        self.log = folder.log(stages[0])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                worker_command(folder.recipe(), folder.root, stages, processes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=tuple(locks),
                start_new_session=True,
                env=_environment(gpus, threads),
            )
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def finish(self) -> None:
        """Join a process that has ended; TrainingError when it failed."""
        status = self.process.wait()
        self._close()
        if status and self._failure:
            raise TrainingError(f"{self._failure.stage}: {self._failure.note}\nThe whole story is in {self.log}")
        if status:
            raise TrainingError(
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

    def _follow(self) -> None:
        """Pass reports on; the first one of a failure is kept for `finish`."""
        assert self.process.stdout is not None
        with self.process.stdout as lines, self.log.open("ab", buffering=0) as log:
            for line in lines:
                report = parse_report(line)
                if report is None:
                    with suppress(OSError):  # the disk may be full, and the reports must still be read
                        log.write(line)
                elif not report.failed:
                    self._report(report)
                elif self._failure is None:
                    self._failure = report

    def _close(self) -> None:
        """Our end of its input first: processes that outlived their launcher end then, and the reports with them."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._follower.join()


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
