"""The machines that estimates assume, and how much of their peak a run is taken to reach.

Peaks are the makers' data sheets: dense bfloat16 without sparsity, memory and its bandwidth. The shares of them are
assumptions, printed with every estimate. GB is 10^9 bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One GPU, or one CPU core."""

    name: str
    memory: float
    """GB; 0 where processes share the machine's."""
    flops: float
    """Peak, floating-point operations a second."""
    bandwidth: float
    """Peak of the memory, bytes a second."""


DEVICES: Mapping[str, Device] = {
    "a100": Device("A100 80 GB (SXM)", 80, 312e12, 2.04e12),
    "h100": Device("H100 80 GB (SXM)", 80, 989e12, 3.35e12),
    "h200": Device("H200 141 GB (SXM)", 141, 989e12, 4.8e12),
    "gh200": Device("GH200 96 GB", 96, 989e12, 4.0e12),
    "cpu": Device("one CPU core with AVX2, float32", 0, 0.1e12, 0.02e12),
}


@dataclass(frozen=True)
class Assumptions:
    """What no recipe says, and nobody has measured for this run."""

    training_share: float = 0.3
    """Of the peak operations, in forward and backward passes over long responses."""
    reading_share: float = 0.5
    """Of the peak bandwidth, while weights and caches are read for the next token."""
    prompt_tokens: int = 128
    """Mean tokens of a prompt of a data set; 16 of a built-in problem."""
    framework_gb: float = 2.0
    """CUDA context, kernels, communication buffers, GB a GPU."""


ENGINE_STEP_SECONDS: Mapping[str, float] = {"vllm_colocate": 0.005, "vllm_server": 0.005}
"""The least time of one decoding step in vLLM, with CUDA graphs: scheduling, sampling, launches."""

LAYER_SECONDS = 0.001
"""The least time of one decoder layer in a decoding step of the trained model itself, in Python."""


def least_step(engine: str, layers: int) -> float:
    """The least seconds of one decoding step."""
    return ENGINE_STEP_SECONDS.get(engine, LAYER_SECONDS * layers)
