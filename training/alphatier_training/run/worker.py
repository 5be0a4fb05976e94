"""The process that runs stages: started by `alphatier train`, it ends when that one ends, however that ends.

    python -m alphatier_training.run.worker OUT base samples-base

What: runs the stages in order, and prints its reports, JSON lines; what libraries print goes to the log, its errors.
Of the processes that share a tier (`ranks`) the main one reports and marks the stage done. An error with a message
for people is the last report, of whichever process; its traceback goes to the log.
What not: it is no command for people; it expects OUT to be claimed and locked.
"""

import os
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

from alphatier_training.errors import EXPECTED, clear_storage_errors
from alphatier_training.recipe import Recipe
from alphatier_training.run import ranks
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Report, Reporter, reporter_to, silent


def main(arguments: list[str]) -> None:
    """Run the stages named in `arguments` after the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    tell = reporter_to(os.dup(sys.stdout.fileno()))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = RunFolder(Path(arguments[0]))
    recipe = folder.recipe()
    for stage in arguments[1:]:
        try:
            with clear_storage_errors(folder.root):
                run_stage(stage, recipe, folder, tell if ranks.is_main() else silent)
        except EXPECTED as error:
            with suppress(OSError):  # the log may lie on the disk that is full
                traceback.print_exc()
            tell(Report(stage, 0, 0, note=str(error), failed=True))
            sys.exit(1)
    ranks.leave()


def run_stage(name: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Run one stage in this process, unless it is done already, and mark it done."""
    from alphatier_training.train import line_of

    if folder.is_done(name):
        return
    started, gpus = time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES")
    report(Report(name, 0, 0, note=f"starting on GPU {gpus}" if gpus else "starting"))
    work = next(stage.work for stage in line_of(recipe) if stage.name == name)
    work(recipe, folder, report)
    ranks.barrier()
    if ranks.is_main():
        folder.mark_done(name, time.monotonic() - started, _memory())
    report(Report(name, 1, 1, finished=True))


def _memory() -> int:
    """The most bytes that this process held: of its GPU as torch reserves it, else of main memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end_with_parent() -> None:
    """Wait for the end of our input, which the parent never writes to: it comes when the parent is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
