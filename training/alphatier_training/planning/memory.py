"""Memory of one training process: what it holds, in bytes, each figure with its formula.

What: weights, gradients and optimiser state by strategy (ZeRO, arXiv 1910.02054), the base for the KL, activations
(after arXiv 2205.05198, for gated feed-forward layers), the head, vLLM beside the trainer. Sequences are taken at
their longest, as memory is what the longest needs. What not: no measurement, no fragmentation.
"""

from dataclasses import dataclass

from alphatier_training.planning.hardware import Assumptions, Device
from alphatier_training.planning.lines import GB, Line, short, total
from alphatier_training.planning.models import ModelShape
from alphatier_training.recipe import Recipe

HEAD_TILE = (4096, 32768)
"""Tokens and vocabulary of the tile of float32 logits that TRL 1.16's fused head holds at once; it never has them all
(trl/kernels/chunked_logprob.py)."""

MASTER = 4
"""Bytes a weight: the float32 copy that DeepSpeed updates where weights are bfloat16."""

MOMENTS = 2
"""Adam's two averages."""


@dataclass(frozen=True)
class Sharing:
    """What part of each kind of memory one process holds."""

    weights: float
    gradients: float
    optimiser: float


def sharing(strategy: str, processes: int) -> Sharing:
    """ZeRO-2 shares out gradients and optimiser state, ZeRO-3 and FSDP the weights too."""
    part = 1 / processes
    return {
        "replicate": Sharing(1, 1, 1),
        "zero2": Sharing(1, part, part),
        "zero3": Sharing(part, part, part),
        "fsdp": Sharing(part, part, part),
    }[strategy]


def on_gpu(recipe: Recipe, device: Device) -> bool:
    """Whether the run is taken to have GPUs: the recipe allows them, and the estimate names one."""
    return recipe.compute.device == "auto" and device.memory > 0


def weight_bytes(recipe: Recipe, device: Device) -> int:
    """Bytes of a number in a forward pass: 4, or 2 in bfloat16, which `auto` is on a GPU."""
    precision = recipe.compute.precision
    return 2 if precision == "bfloat16" or (precision == "auto" and on_gpu(recipe, device)) else 4


def kept_bytes(recipe: Recipe, device: Device) -> int:
    """Bytes of a weight as the trainer keeps it: float32 where it is trained, unless DeepSpeed keeps such a copy."""
    if recipe.rl.lora is None and not recipe.compute.strategy.startswith("zero"):
        return 4
    return weight_bytes(recipe, device)


def checkpointing(recipe: Recipe, device: Device) -> bool:
    """Whether activations are recomputed; by default on a GPU."""
    chosen = recipe.compute.gradient_checkpointing
    return on_gpu(recipe, device) if chosen is None else chosen


def training_memory(recipe: Recipe, shape: ModelShape, device: Device, assumed: Assumptions) -> list[Line]:
    """What one training process holds on its device while it updates the model."""
    held = [*_model(recipe, shape, device), *_reference(recipe, shape, device), *_batch(recipe, shape, device)]
    if on_gpu(recipe, device):
        held += [*_colocated(recipe, device, held), Line("framework", assumed.framework_gb * GB, "assumed")]
    return [line for line in held if line.value]


def offloaded(recipe: Recipe, shape: ModelShape, device: Device) -> float:
    """Bytes of optimiser state in a node's main memory."""
    compute = recipe.compute
    if not compute.offload_optimiser:
        return 0.0
    return _optimiser(recipe, shape, device).value * compute.processes


def trained(recipe: Recipe, shape: ModelShape) -> int:
    """Number of weights that are trained: the adapter's, or all."""
    return shape.adapter_parameters(recipe.rl.lora.rank) if recipe.rl.lora else shape.parameters


def _model(recipe: Recipe, shape: ModelShape, device: Device) -> list[Line]:
    compute, number, size = recipe.compute, shape.parameters, kept_bytes(recipe, device)
    share = sharing(compute.strategy, _processes(recipe))
    lines = [Line("weights", number * size * share.weights, _product(number, size, share.weights, recipe))]
    if share.weights < 1:
        head = shape.vocabulary * shape.hidden
        largest = max(head, (number - head * (1 if shape.tied else 2)) / shape.layers)
        gathered = largest * weight_bytes(recipe, device)
        lines.append(Line("weights gathered", gathered, f"the largest layer, {short(largest)} weights, whole"))
    count = trained(recipe, shape)
    if recipe.rl.lora:
        size = 4
        lines.append(Line("adapter", count * size, f"{short(count)} x {size} bytes, float32"))
    gradients = count * size * share.gradients
    lines.append(Line("gradients", gradients, _product(count, size, share.gradients, recipe)))
    return lines if compute.offload_optimiser else [*lines, _optimiser(recipe, shape, device)]


def _optimiser(recipe: Recipe, shape: ModelShape, device: Device) -> Line:
    """Adam's averages in float32, and a float32 copy of weights that are kept in bfloat16."""
    share, count = sharing(recipe.compute.strategy, _processes(recipe)).optimiser, trained(recipe, shape)
    copied = recipe.rl.lora is None and kept_bytes(recipe, device) == 2
    each, why = MOMENTS * 4 + (MASTER if copied else 0), "Adam's averages" + (", float32 weights" if copied else "")
    return Line("optimiser", count * each * share, f"{_product(count, each, share, recipe)}: {why}")


def _reference(recipe: Recipe, shape: ModelShape, device: Device) -> list[Line]:
    """A frozen base beside the trained model; an adapter is switched off instead."""
    if recipe.rl.lora or not recipe.rl.kl.coefficient:
        return []
    share, size = sharing(recipe.compute.strategy, _processes(recipe)).weights, kept_bytes(recipe, device)
    formula = f"{_product(shape.parameters, size, share, recipe)}: the base, for the KL"
    return [Line("reference", shape.parameters * size * share, formula)]


def _batch(recipe: Recipe, shape: ModelShape, device: Device) -> list[Line]:
    """Activations and the head of one micro batch, its rows at their longest."""
    rows, length, size = micro_batch(recipe), longest(recipe), weight_bytes(recipe, device)
    tokens = rows * length
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    values = 4 * shape.hidden + 2 * queries + 2 * keys + 4 * shape.ffn
    if checkpointing(recipe, device):
        kept, text = (
            tokens * size * (shape.layers * shape.hidden + values),
            (f"({shape.layers} layers x {shape.hidden} + {values} of the layer at work)"),
        )
    else:
        kept, text = tokens * size * shape.layers * values, f"{shape.layers} layers x {values}"
    formula = f"{rows} x {short(length)} tokens x {text} x {size} bytes"
    tile = min(tokens, HEAD_TILE[0]) * min(shape.vocabulary, HEAD_TILE[1])
    head = (tokens * shape.hidden + tile) * 4
    why = f"({rows} x {short(length)} tokens x {shape.hidden} + a tile of {short(tile)} logits) x 4 bytes"
    if recipe.rl.lora is None:
        head += shape.vocabulary * shape.hidden * 4
        why += f" + {short(shape.vocabulary)} x {shape.hidden} x 4 bytes"
    return [Line("activations", kept, formula), Line("head", head, f"{why} (TRL's fused head)")]


def _colocated(recipe: Recipe, device: Device, held: list[Line]) -> list[Line]:
    """vLLM on the same GPU; asleep during the update, it needs what the batch has left."""
    generation = recipe.compute.generation
    if generation.engine != "vllm_colocate":
        return []
    share = generation.memory_share * device.memory * GB
    formula = f"{generation.memory_share:g} x {device.memory:g} GB"
    if generation.sleep:
        batch = total([line for line in held if line.name in ("activations", "head")])
        return [Line("vLLM", max(0.0, share - batch), f"{formula}, less the batch: it sleeps during the update")]
    return [Line("vLLM", share, formula)]


def micro_batch(recipe: Recipe) -> int:
    """Responses of one forward pass in one process."""
    rl = recipe.rl
    update = rl.prompts_per_rollout * rl.samples_per_prompt // rl.updates_per_rollout
    return rl.micro_batch or update // _processes(recipe)


def longest(recipe: Recipe) -> int:
    """The longest prompt and response together, tokens."""
    return recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens


def _processes(recipe: Recipe) -> int:
    return recipe.compute.processes * recipe.compute.nodes


def _product(count: float, size: int, share: float, recipe: Recipe) -> str:
    return f"{short(count)} x {size} bytes" + (f" / {_processes(recipe)} processes" if share < 1 else "")
