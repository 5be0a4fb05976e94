"""The process that runs stages: started by `alphatier train`, it ends when that one ends, however that ends.

    python -m alphatier_training.run.worker OUT base samples-base

What: runs the stages in order, reports on ALPHATIER_REPORTS (a pipe's path, or an open descriptor), prints to its
log. Of the processes that share a tier (launch.py) the main one reports and marks the stage done. An error
with a message for people is the last report, of whichever process; its traceback goes to the log.
What not: it is no command for people; it expects OUT to be claimed and locked.
"""

import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from alphatier_training.errors import TrainingError
from alphatier_training.run import ranks
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import PipeReporter, Report, silent
from alphatier_training.run.stages import run_stage
from alphatier_training.run.storage import clear_storage_errors

REPORTS = "ALPHATIER_REPORTS"


def main(arguments: list[str]) -> None:
    """Run the stages named in `arguments` after the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = RunFolder(Path(arguments[0]))
    report = PipeReporter.to(os.environ[REPORTS]) if ranks.is_main() else silent
    recipe = folder.recipe()
    for stage in arguments[1:]:
        try:
            with clear_storage_errors(folder.root):
                run_stage(stage, recipe, folder, report)
        except TrainingError as error:
            _fail(stage, error)
    ranks.leave()


def _fail(stage: str, error: TrainingError) -> NoReturn:
    """End with the error as the last report."""
    with suppress(OSError):  # the log may lie on the disk that is full
        traceback.print_exc()
    PipeReporter.to(os.environ[REPORTS])(Report(stage, 0, 0, note=str(error), failed=True))
    sys.exit(1)


def _end_with_parent() -> None:
    """Wait for the end of our input, which the parent never writes to: it comes when the parent is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    reports = Path(os.environ[REPORTS])
    with suppress(OSError):  # what the parent deletes if it can
        if reports.is_fifo():
            reports.unlink()
            reports.parent.rmdir()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
