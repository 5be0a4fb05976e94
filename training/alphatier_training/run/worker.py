"""The process that runs stages: started by `alphatier train`, it ends when that one ends, however that ends.

    python -m alphatier_training.run.worker OUT base samples-base

What: runs the stages in order, reports on the file descriptor ALPHATIER_REPORTS, prints to its log.
What not: it is no command for people; it expects OUT to be claimed and locked.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import PipeReporter
from alphatier_training.run.stages import run_stage

REPORTS = "ALPHATIER_REPORTS"


def main(arguments: list[str]) -> None:
    """Run the stages named in `arguments` after the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = RunFolder(Path(arguments[0]))
    report = PipeReporter(int(os.environ[REPORTS]))
    recipe = folder.recipe()
    for stage in arguments[1:]:
        run_stage(stage, recipe, folder, report)


def _end_with_parent() -> None:
    """Wait for the end of our input, which the parent never writes to: it comes when the parent is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
