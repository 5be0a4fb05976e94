"""The stage `base`: a small Llama trained from nothing on sums worked in several ways.

What: next-token loss on the response, helped by two heads that are thrown away afterwards (the running total at every
number, and which operand is whose); AdamW, gradients averaged over a few processes, checkpoints, and the finished
model with its tokenizer. What not: the data are in `batches`; no RL, no evaluation. Run by `alphatier train`.
"""

import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from alphatier_training import checkpoints
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, EvaluationPlan, Recipe
from alphatier_training.recipe.base import Architecture, SupervisedBase
from alphatier_training.run.folder import RunFolder, replacing
from alphatier_training.run.reporting import Report, Reporter, silent
from alphatier_training.tiny.batches import Batch, Step, steps
from alphatier_training.tiny.sums import LEVELS
from alphatier_training.tiny.tokenizer import build_tokenizer

WARMUP_STEPS = 100
"""Steps of linear warm-up in a phase, at most a tenth of it."""

LEAST_RATE = 0.03
"""What the cosine of a phase falls to, as a share of its peak."""

HEADS_WEIGHT = 0.5
"""What the loss of each auxiliary head counts, against the response's."""

_REPORT_EVERY = 20
_STATE = "state.pt"
"""Model and optimiser, in a checkpoint."""


class Learner(nn.Module):
    """A stock Llama and the two heads that help it to learn."""

    def __init__(self, shape: Architecture, tokenizer: Any) -> None:
        super().__init__()
        self.model = build_model(shape, tokenizer)
        self.total = nn.Linear(shape.hidden_size, 20, bias=False)
        """Ten classes for the tens and ten for the units, from what the last layer reads."""
        self.place = nn.Linear(shape.hidden_size, len(LEVELS) + 1, bias=False)
        """Which operand, from what the layer before reads."""

    def losses(self, batch: Batch) -> Tensor:
        """Summed losses of the response, the running totals and the places [3]."""
        output = self.model(input_ids=batch.ids, use_cache=False, output_hidden_states=True)
        *_, before, last, _ = output.hidden_states
        learnt, counted, placed = batch.masks()
        text = functional.cross_entropy(output.logits[:, :-1][learnt[:, 1:]], batch.ids[learnt], reduction="sum")
        totals, digits = batch.totals[counted], self.total(_normed(last[counted]))
        tens, units = digits.split(10, dim=-1)
        total = functional.cross_entropy(tens, totals // 10, reduction="sum")
        total = total + functional.cross_entropy(units, totals % 10, reduction="sum")
        place = functional.cross_entropy(self.place(_normed(before[placed])), batch.places[placed], reduction="sum")
        return torch.stack([text, total, place])


def _normed(hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:])


def train_base(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Train the base, or go on from its checkpoint, and put it into the family.

    Raises:
        TrainingError: loss, gradient or weights were not finite.
    """
    work, steps = folder.checkpoints(BASE_TIER), recipe.supervised().steps
    work.mkdir(parents=True, exist_ok=True)
    last = checkpoints.newest(work, lambda text: report(Report(BASE_TIER, 0, steps, "steps", text, warning=True)))
    with _helpers(recipe, folder, last):
        model = _train(recipe, folder, report, 0, last)
    with replacing(folder.base) as new:
        save_model(model, build_tokenizer(), recipe.evaluation, new)


@contextmanager
def _helpers(recipe: Recipe, folder: RunFolder, last: Path | None) -> Iterator[None]:
    """The other processes: waited for at the end of the block, stopped when it fails, as they would wait for us."""
    size = recipe.supervised().processes
    if size == 1:
        yield
        return
    meeting = _meeting_point(folder)
    started = spawn(_peer, (recipe, folder, meeting, last), nprocs=size - 1, join=False)  # type: ignore[no-untyped-call]
    try:
        _join(meeting, 0, size)
        yield
        distributed.destroy_process_group()
        started.join()
    except BaseException:
        for process in started.processes:
            process.terminate()
        raise


def _peer(index: int, recipe: Recipe, folder: RunFolder, meeting: str, last: Path | None) -> None:
    """A helper process: the same steps on its own share of the data. It ends when the first one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch has the system send it when the first one dies
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        return
    rank = index + 1
    _join(meeting, rank, recipe.supervised().processes)
    _train(recipe, folder, silent, rank, last)
    distributed.destroy_process_group()


def _meeting_point(folder: RunFolder) -> str:
    """A file through which the processes find each other; none of an earlier run that was killed knows its name."""
    for old in folder.checkpoints(BASE_TIER).glob("meeting-*"):
        old.unlink(missing_ok=True)
    return (folder.checkpoints(BASE_TIER).absolute() / f"meeting-{uuid4().hex}").as_uri()


def _join(meeting: str, rank: int, size: int) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)


def _train(recipe: Recipe, folder: RunFolder, report: Reporter, rank: int, last: Path | None) -> Any:
    """The training loop of one process; all of them hold the same weights after each step."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    plan = recipe.supervised()
    learner = Learner(plan.architecture, build_tokenizer())
    optimiser = torch.optim.AdamW(learner.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    parts: dict[str, Any] = {"learner": learner, "optimiser": optimiser}
    done, recent = _restore(last, parts), []
    for step, examples in enumerate(steps(recipe, rank=rank, start=done), done + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(plan, step - 1)
        losses, norm = _update(learner, examples, optimiser)
        recent.append(losses)
        keep = step % plan.checkpoint_every == 0
        _check_finite(folder, step, losses[0], norm, learner if keep or step == plan.steps else None)
        if step % _REPORT_EVERY == 0:
            means = (math.fsum(column) / len(recent) for column in zip(*recent, strict=True))
            text = "loss {:.3f}, totals {:.3f}, places {:.3f}".format(*means)
            recent.clear()
            report(Report(BASE_TIER, step, plan.steps, "steps", text))
        if rank == 0 and keep:
            save_state(folder.checkpoints(BASE_TIER), step, {name: part.state_dict() for name, part in parts.items()})
    return learner.model


def _check_finite(folder: RunFolder, step: int, loss: float, norm: float, model: nn.Module | None) -> None:
    """Stop at the step whose numbers are none; weights that are about to be kept are looked at too."""
    wrong = None
    if not (math.isfinite(loss) and math.isfinite(norm)):
        wrong = f"the loss is {loss} and the gradient's norm {norm}"
    elif model is not None and not all(bool(part.isfinite().all()) for part in model.parameters()):
        wrong = "the weights are not finite"
    if wrong:
        raise TrainingError(
            f"{wrong} at step {step}: the training has diverged. Earlier checkpoints in "
            f"{folder.checkpoints(BASE_TIER)} are intact. Lower the learning_rate of base.phases and train into "
            "another folder (--out)."
        )


def build_model(shape: Architecture, tokenizer: Any) -> Any:
    """A Llama with random weights (torch's global seed), its embedding tied to its head."""
    config = LlamaConfig(
        vocab_size=math.ceil(len(tokenizer) / 16) * 16,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_size,
        intermediate_size=shape.ffn_size,
        max_position_embeddings=shape.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            std = (0.5 if "embed" in name else 0.6) / math.sqrt(weights.shape[1])
            ends_a_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(weights, 0, std / math.sqrt(2 * shape.layers) if ends_a_branch else std)
    return model


def save_model(model: Any, tokenizer: Any, sampling: EvaluationPlan, folder: Path) -> None:
    """Write a stock checkpoint; its generation defaults are the ones it is evaluated with."""
    model.generation_config = GenerationConfig(
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_p=sampling.top_p,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rate_at(plan: SupervisedBase, step: int) -> float:
    """The learning rate of `step` (from 0): linear warm-up and cosine, anew in each phase."""
    phase, step = plan.phase_at(step)
    warmup = min(WARMUP_STEPS, phase.steps // 10)
    cosine = 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return phase.learning_rate * min(1, (step + 1) / (warmup + 1)) * (LEAST_RATE + (1 - LEAST_RATE) * cosine)


def _update(learner: Learner, step: Step, optimiser: torch.optim.Optimizer) -> tuple[list[float], float]:
    """One optimiser step on the mean losses; gives those of response and heads, and the gradient's norm."""
    weights = torch.tensor([1, HEADS_WEIGHT, HEADS_WEIGHT])
    mean = torch.zeros(3)
    for batch in step.batches:
        losses = learner.losses(batch) / step.counts.clamp(min=1)
        (losses * weights).sum().backward()  # type: ignore[no-untyped-call]
        mean += losses.detach()
    _average(learner)
    norm = nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return mean.tolist(), norm.item()


def _average(learner: Learner) -> None:
    """Make every gradient the mean over the processes."""
    if distributed.is_initialized():
        gradients = [weights.grad for weights in learner.parameters() if weights.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))


def save_state(folder: Path, step: int, states: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step`, and keep the one before; wherever this is interrupted, one of them is there."""
    with replacing(folder / f"checkpoint-{step}") as new:
        torch.save(dict(states), new / _STATE)
        checkpoints.mark_whole(new)
    for old in checkpoints.in_order(folder)[:-2]:
        shutil.rmtree(old)


def _restore(last: Path | None, parts: Mapping[str, Any]) -> int:
    """Load the checkpoint if there is one; gives the number of finished steps."""
    if last is None:
        return 0
    states = torch.load(last / _STATE, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return checkpoints.step_of(last)
