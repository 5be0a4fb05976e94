"""Which of a stage's processes this one is; one that is not shared has one, the main one.

The launcher (`launch`) sets RANK and WORLD_SIZE; torch.distributed is joined by the trainer, later.
"""

import os


def size() -> int:
    """The processes that share the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process reports, and writes what all share."""
    return int(os.environ.get("RANK", "0")) == 0


def barrier() -> None:
    """Wait until all processes of the stage are here; nothing where this one is alone or has joined no group."""
    if size() > 1:
        from torch import distributed

        if distributed.is_initialized():
            distributed.barrier()


def leave() -> None:
    """Leave the group of processes, if this one has joined one."""
    if size() > 1:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()
