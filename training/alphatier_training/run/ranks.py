"""Which of a stage's processes this one is. A stage that is not shared has one process, the main one.

The launcher (launch.py) sets RANK and WORLD_SIZE; torch.distributed is joined by the trainer, later.
"""

import os
import resource
import sys


def size() -> int:
    """The processes that share the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process reports, and writes what all share."""
    return int(os.environ.get("RANK", "0")) == 0


def barrier() -> None:
    """Wait until all processes of the stage are here; nothing where this one is alone or has joined no group."""
    if size() == 1:
        return
    from torch import distributed

    if distributed.is_initialized():
        distributed.barrier()


def leave() -> None:
    """Leave the group of processes, if this one has joined one."""
    if size() == 1:
        return
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def memory() -> int:
    """The most bytes that this process held: of its GPU as torch reserves it, else of main memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
