"""The stage `base`: a small Llama trained from nothing on synthetic responses that think too much.

What: next-token loss on the response, AdamW with warm-up and cosine, gradients averaged over a few
processes, checkpoints, and the finished model with its tokenizer.
What not: the data are in `batches`; no RL, no evaluation. Run by `alphatier train`.
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
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from alphatier_training import checkpoints
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, EvaluationPlan, Recipe
from alphatier_training.recipe.base import Architecture, SupervisedBase
from alphatier_training.run.folder import RunFolder, replacing
from alphatier_training.run.reporting import Report, Reporter, silent
from alphatier_training.tiny.batches import IGNORED, Batch, batches
from alphatier_training.tiny.tokenizer import build_tokenizer

_REPORT_EVERY = 20
_STATE = "state.pt"
"""Model, optimiser and schedule, in a checkpoint."""


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
    plan, tokenizer = recipe.supervised(), build_tokenizer()
    model = build_model(plan.architecture, tokenizer)
    optimiser, schedule = _optimiser(model, plan)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    step = _restore(last, parts)
    for batch in batches(recipe, tokenizer, rank=rank, start=step):
        loss, norm = _update(model, batch, optimiser, schedule, plan.gradient_clip)
        step += 1
        keep = step % plan.checkpoint_every == 0
        _check_finite(folder, step, loss, norm, model if keep or step == plan.steps else None)
        if step % _REPORT_EVERY == 0:
            report(Report(BASE_TIER, step, plan.steps, "steps", f"loss {loss:.3f}"))
        if rank == 0 and keep:
            save_state(folder.checkpoints(BASE_TIER), step, {name: part.state_dict() for name, part in parts.items()})
    return model


def _check_finite(folder: RunFolder, step: int, loss: float, norm: float, model: Any | None) -> None:
    """Stop at the step whose numbers are none; weights that are about to be kept are looked at too."""
    wrong = None
    if not (math.isfinite(loss) and math.isfinite(norm)):
        wrong = f"the loss is {loss} and the gradient's norm {norm}"
    elif model is not None and not all(bool(part.isfinite().all()) for part in model.parameters()):
        wrong = "the weights are not finite"
    if wrong:
        raise TrainingError(
            f"{wrong} at step {step}: the training has diverged. Earlier checkpoints in "
            f"{folder.checkpoints(BASE_TIER)} are intact. Lower base.learning_rate or base.gradient_clip and train "
            "into another folder (--out)."
        )


def build_model(shape: Architecture, tokenizer: Any) -> Any:
    """A Llama with random weights (torch's global seed), its embedding tied to its head."""
    multiple = shape.vocabulary_multiple
    config = LlamaConfig(
        vocab_size=math.ceil(len(tokenizer) / multiple) * multiple,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_size,
        intermediate_size=shape.ffn_size,
        initializer_range=shape.init_std,
        max_position_embeddings=shape.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


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


def _optimiser(model: Any, plan: SupervisedBase) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=plan.adam_betas, weight_decay=plan.weight_decay, fused=True
    )

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(plan, step))


def rate_at(plan: SupervisedBase, step: int) -> float:
    """The learning rate at `step` (from 0), as a share of the plan's; warm-up and decay begin anew in each phase."""
    start = 0.0
    for phase in plan.phases:
        end = phase.until * plan.steps
        if step < end or phase is plan.phases[-1]:
            peak = (phase.learning_rate or plan.learning_rate) / plan.learning_rate
            return peak * _cycle(plan, step - math.ceil(start), end - math.ceil(start))
        start = end
    raise AssertionError("the last phase ends at 1")


def _cycle(plan: SupervisedBase, step: int, steps: float) -> float:
    """Warm-up and decay over one phase, as a share of its peak."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    share = min(1.0, (step - plan.warmup_steps) / max(1, steps - plan.warmup_steps))
    if plan.schedule == "linear":
        return min(1.0, 2 * (1 - step / steps)) if steps else 0.0
    return 0.5 * (1 + math.cos(math.pi * share))


def _update(model: Any, batch: Batch, optimiser: Any, schedule: Any, clip: float) -> tuple[float, float]:
    """One optimiser step on the mean loss of all processes' tokens; gives that loss and the gradient's norm."""
    logits = model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1]
    labels = batch.labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    loss.backward()  # type: ignore[no-untyped-call]
    mean = _average([parameter.grad for parameter in model.parameters()], loss.detach(), (labels != IGNORED).sum())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    schedule.step()
    optimiser.zero_grad()
    return mean, norm.item()


def _average(gradients: list[Tensor], loss: Tensor, tokens: Tensor) -> float:
    """Turn summed gradients into the mean over all processes' tokens, in place; gives the mean loss."""
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [torch.stack([loss, tokens.to(loss)])])
    if distributed.is_initialized():
        distributed.all_reduce(flat)
    total, count = flat[-2:].tolist()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient)).div_(count)
        offset += gradient.numel()
    return float(total / count)


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
