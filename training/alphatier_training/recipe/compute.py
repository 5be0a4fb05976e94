"""What a recipe runs on: device, processes and how they share the model, and who generates the rollouts."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alphatier_training.recipe.sections import PositiveInt, Section


class Generation(Section):
    """Who generates the rollouts."""

    engine: Literal["in_process", "vllm_colocate", "vllm_server"] = Field(
        "in_process",
        description="the trained model itself; vLLM on the same GPUs; or `vllm serve` on GPUs of its own",
    )
    memory_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="share of a GPU's memory for vLLM (vllm_colocate)"
    )
    tensor_parallel: PositiveInt = Field(1, description="GPUs that share one copy of vLLM's model")
    data_parallel: PositiveInt = Field(1, description="copies of vLLM's model (vllm_server)")
    server: str = Field("http://127.0.0.1:8001", description="where the trainer finds `vllm serve` (vllm_server)")
    sleep: bool = Field(False, description="whether vLLM frees its memory while the model is updated (vllm_colocate)")


class Compute(Section):
    """Devices, processes, and how they share the model."""

    device: Literal["cpu", "auto"] = Field("cpu", description="auto takes a GPU where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the weights; auto: float32 on a CPU, bfloat16 on a GPU (paper)"
    )
    processes: PositiveInt = Field(1, description="RL processes that share a tier, one GPU (or core) each")
    strategy: Literal["replicate", "zero2", "zero3", "fsdp"] = Field(
        "replicate",
        description="what processes hold: all of it; DeepSpeed ZeRO-2 (paper, 1.5B) or ZeRO-3 (paper, 7B); FSDP",
    )
    offload_optimiser: bool = Field(False, description="keep the optimiser's state in main memory (paper, 7B)")
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations instead of keeping them; null: on a GPU (paper, 7B: yes)"
    )
    generation: Generation = Field(Generation(), description="who generates the rollouts")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.strategy in ("zero2", "zero3", "fsdp") and self.device == "cpu":
            raise ValueError(f"strategy: {self.strategy} needs GPUs; set device to auto, or strategy to replicate")
        if self.offload_optimiser and self.strategy not in ("zero2", "zero3"):
            raise ValueError(f"offload_optimiser: needs strategy zero2 or zero3, not {self.strategy}")
        shared = self.generation.tensor_parallel
        if self.generation.engine == "vllm_colocate" and self.processes % shared:
            raise ValueError(
                f"generation.tensor_parallel: {shared} GPUs a copy of vLLM's model do not divide {self.processes} "
                "processes"
            )
        if self.generation.engine != "in_process" and self.device == "cpu":
            raise ValueError(f"generation.engine: TRL runs {self.generation.engine} on GPUs only; set device to auto")
        return self
