"""How long a run takes: seconds of generation and of training, each figure with its formula.

    generation = longest response x least time of a step + tokens x reading and arithmetic of one token
    training   = tokens x passes x (2 x weights + 2 x layers x width x length) / (share of the peak)

What: a roofline with the assumptions of `hardware`. What not: no measurement; graders, checkpoints, communication
and the time that engines take to start are left out.
"""

import math
from dataclasses import dataclass

from alphatier_training.planning.hardware import Assumptions, Device, least_step
from alphatier_training.planning.lines import GB, Line, short
from alphatier_training.planning.memory import checkpointing, micro_batch, on_gpu, weight_bytes
from alphatier_training.planning.models import ModelShape
from alphatier_training.planning.work import Work
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataProblems

ENGINE_MEMORY = 0.9
"""Share of a GPU's memory that `vllm serve` takes by default."""

EVALUATION_ROWS = 250
EVALUATION_TOKENS = 1 << 18
EVALUATION_PROMPT = 512
"""The evaluation samples so many responses together, or as many as have these tokens (evaluation/sampling.py)."""

BUILT_IN_PROMPT = 16
"""Tokens of a built-in problem, about."""


@dataclass(frozen=True)
class Engines:
    """The copies of the model that generate rollouts."""

    copies: int
    devices: int
    """That share one copy."""
    concurrent: float
    """Responses at once in one copy, of mean length; what its cache has room for."""
    step: float
    """The least seconds of one decoding step."""

    @property
    def all_devices(self) -> int:
        """GPUs, or processes, that generate."""
        return self.copies * self.devices


def engines_of(recipe: Recipe, shape: ModelShape, work: Work, device: Device, assumed: Assumptions) -> Engines:
    """Who generates the rollouts of `recipe`."""
    generation, trainers = recipe.compute.generation, recipe.compute.processes * recipe.compute.nodes
    if generation.engine == "in_process":
        return Engines(trainers, 1, work.responses / trainers, least_step(generation.engine, shape.layers))
    across = generation.tensor_parallel
    copies = generation.data_parallel if generation.engine == "vllm_server" else trainers // across
    share = ENGINE_MEMORY if generation.engine == "vllm_server" else generation.memory_share
    size = weight_bytes(recipe, device)
    room = share * device.memory * GB * across - shape.parameters * size
    one = (prompt_tokens(recipe, assumed) + work.response.expected) * shape.kv_values * size
    concurrent = max(1.0, min(work.responses / copies, room / one))
    return Engines(copies, across, concurrent, least_step(generation.engine, shape.layers))


def generation_line(
    recipe: Recipe, shape: ModelShape, work: Work, device: Device, assumed: Assumptions, rate: float | None
) -> Line:
    """Seconds to generate one rollout; `rate` in tokens a second of all engines, if it is known."""
    tokens = work.rollout.expected
    if rate is not None:
        return Line("generation", tokens / rate, f"{short(tokens)} tokens / {rate:,.0f} a second (given)")
    engines = engines_of(recipe, shape, work, device, assumed)
    size, reading = weight_bytes(recipe, device), device.bandwidth * assumed.reading_share * engines.devices
    step = max(engines.step, shape.parameters * size / reading)
    context = prompt_tokens(recipe, assumed) + work.response.expected / 2
    token = context * shape.kv_values * size / reading + 2 * shape.parameters / (
        device.flops * assumed.training_share * engines.devices
    )
    rounds = math.ceil(work.responses / engines.copies / engines.concurrent)
    seconds = rounds * recipe.rl.max_new_tokens * step + tokens / engines.copies * token
    formula = (
        f"{short(rounds * recipe.rl.max_new_tokens)} steps x {step * 1e3:.1f} ms "
        f"+ {short(tokens / engines.copies)} tokens x {token * 1e6:.2g} us"
    )
    return Line("generation", seconds, formula)


def prompt_tokens(recipe: Recipe, assumed: Assumptions) -> int:
    """Mean tokens of a prompt."""
    usual = assumed.prompt_tokens if isinstance(recipe.problems, DataProblems) else BUILT_IN_PROMPT
    return min(usual, recipe.rl.max_prompt_tokens)


def passes(recipe: Recipe, device: Device) -> float:
    """Forward passes' worth of arithmetic that a token costs in training.

    The update is a forward and a backward pass; the backward costs 2 forwards, or 1 where the weights are frozen
    beneath an adapter; one more where activations are recomputed; one for log-probabilities at sampling time
    where they differ from the current ones; one for the base's.
    """
    rl = recipe.rl
    update = (2 if rl.lora else 3) + (1 if checkpointing(recipe, device) else 0)
    old = rl.updates_per_rollout > 1 or (rl.kl.coefficient > 0 and rl.kl.place != "loss")
    measured = 1 / rl.kl.measure_every if rl.lora and rl.kl.measure_every else 0.0
    return update + (1 if old else 0) + (1 if rl.kl.coefficient else measured)


def training_line(recipe: Recipe, shape: ModelShape, work: Work, device: Device, assumed: Assumptions) -> Line:
    """Seconds to score one rollout and to update the model on it."""
    row = trained_length(recipe, work, device, assumed)
    forward = 2 * shape.parameters + 2 * shape.layers * shape.heads * shape.head_size * row
    tokens, times = work.responses * row, passes(recipe, device)
    processes = recipe.compute.processes * recipe.compute.nodes
    peak = device.flops * assumed.training_share * processes
    formula = (
        f"{work.responses} x {short(row)} tokens x {times:g} passes x {short(forward)} operations "
        f"/ ({processes} x {assumed.training_share:g} x {short(device.flops)})"
    )
    return Line("training", tokens * times * forward / peak, formula)


def trained_length(recipe: Recipe, work: Work, device: Device, assumed: Assumptions) -> float:
    """Tokens of one row: its micro batch is as long as the longest of its m responses (rl/trainer.py).

    Taken as mean x (1 + 1/2 + ... + 1/m), the mean of the largest of m exponentially distributed lengths. On a CPU a
    Llama is run without any padding (rl/policy.py).
    """
    rows = micro_batch(recipe) if on_gpu(recipe, device) else 1
    longest = work.response.expected * sum(1 / number for number in range(1, rows + 1))
    return prompt_tokens(recipe, assumed) + min(longest, recipe.rl.max_new_tokens)


def sampling_lines(recipe: Recipe, shape: ModelShape, work: Work, device: Device, assumed: Assumptions) -> list[Line]:
    """Seconds to measure the base and every tier, and to choose problems by the base's pass rate."""
    plan, models = recipe.evaluation, work.tiers + 1
    responses = sum(count for _, count, _ in work.evaluations.values())
    tokens = work.evaluation.expected / models
    seconds, formula = _sampled(recipe, shape, device, assumed, responses, tokens, plan.max_new_tokens)
    lines = [Line("evaluation", models * seconds, f"{models} models x ({formula})")]
    if work.selection.at_most:
        longest, tokens = recipe.rl.max_new_tokens, work.selection.expected
        responses = round(work.selection.at_most / longest)
        lines.append(Line("choosing problems", *_sampled(recipe, shape, device, assumed, responses, tokens, longest)))
    return lines


def _sampled(
    recipe: Recipe,
    shape: ModelShape,
    device: Device,
    assumed: Assumptions,
    responses: int,
    tokens: float,
    longest: int,
) -> tuple[float, str]:
    """Seconds of sampling in one process of its own, each batch with a response that is cut off, and the formula."""
    size, reading = weight_bytes(recipe, device), device.bandwidth * assumed.reading_share
    step = max(least_step("in_process", shape.layers), shape.parameters * size / reading)
    rows = max(1, min(EVALUATION_ROWS, EVALUATION_TOKENS // (longest + EVALUATION_PROMPT)))
    steps, token = (
        math.ceil(responses / rows) * longest,
        2 * shape.parameters / (device.flops * assumed.training_share),
    )
    formula = f"{short(steps)} steps x {step * 1e3:.1f} ms + {short(tokens)} tokens x {token * 1e6:.2g} us"
    return steps * step + tokens * token, formula
