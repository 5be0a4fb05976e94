"""What a run has to work with: the GPUs that are visible to it, and cores. No torch: it is asked in preflight."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_LIST = ("nvidia-smi", "--list-gpus")


@dataclass(frozen=True)
class Machine:
    """GPUs and cores."""

    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them: numbers, UUIDs or MIG ids. None: stages run on the CPU."""
    cores: int = 1

    def threads(self) -> int:
        """For each process: a GPU's share of the cores, as DeepSpeed updates offloaded weights there; 1 on a CPU."""
        return max(1, self.cores // len(self.gpus)) if self.gpus else 1


def this_machine(device: str, environment: Mapping[str, str] = os.environ) -> Machine:
    """What this process may use.

    Args:
        device: The recipe's `compute.device`; `cpu` uses no GPU, whatever there is.
        environment: Where CUDA_VISIBLE_DEVICES is looked up; a scheduler such as SLURM sets it.
    """
    return Machine(() if device == "cpu" else _visible(environment), cores())


def cores() -> int:
    """The cores, as the scheduler allows them where it tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The devices that are set, up to the first that is none, as CUDA reads them; else all that the driver lists."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(map(str, range(_installed())))
    names = [name.strip() for name in chosen.split(",")]
    stop = next((at for at, name in enumerate(names) if name in ("", "-1", "NoDevFiles")), len(names))
    return tuple(names[:stop])


def _installed() -> int:
    try:
        listed = subprocess.run(_LIST, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())
