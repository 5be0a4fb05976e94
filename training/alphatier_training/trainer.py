"""TRL's RLOO trainer with the method's switches: which advantage, which loss, which KL.

What: rollouts, rewards, batches, distribution, optimiser, checkpoints and logging are TRL's and transformers';
here the advantages of a rollout and the loss of an update are those of `advantages` and `loss`, pure and tested
by themselves. What TRL computes for a rollout and the paper's default does not need is left out: the
log-probabilities at sampling time, which equal the current ones when there is one update a rollout.
What not: no reward (`rl.rollout_reward`), no callbacks (`rl.watching`, `rl.keeping`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from trl import RLOOTrainer

from alphatier_training.advantages import over_tokens, response_advantages, whiten
from alphatier_training.gated import ByRow, make_gated
from alphatier_training.joint import Joint, make_joint
from alphatier_training.loss import aggregate, kl_estimate, mismatch, mismatch_weights, policy_loss
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.rl.engine import Engine, clear_generation_errors
from alphatier_training.rl.keeping import RolloutFile
from alphatier_training.rl.policy import without_padding
from alphatier_training.rl.rollout_reward import text_of

Rollout = dict[str, Any]

_NEXT_TO_NOTHING = 1e-300
"""A coefficient with which TRL computes the base's log-probabilities; times a KL it is 0 in float32."""


class EfficiencyTrainer(RLOOTrainer):  # type: ignore[misc]  # trl has no types for mypy
    """RLOO with the advantage, loss and KL that a recipe asks for."""

    def __init__(
        self,
        *args: Any,
        method: Reinforcement,
        alphas: Sequence[float] = (),
        rollouts: RolloutFile | None = None,
        **kwargs: Any,
    ) -> None:
        """As TRL's, with the recipe's `method`, the alphas of a joint run, and the file of the kept responses."""
        self.method, self._rollouts = method, rollouts
        self._scored: list[Tensor] | None = None
        self._rewards = self._response_advantages = torch.empty(0)
        self._seconds: dict[str, float] = {}
        super().__init__(*args, **kwargs)
        self._joint: Joint | None = make_joint(self.model, alphas) if method.joint else None
        self._by_row: ByRow | None = self._joint
        if method.gated:
            self._by_row = make_gated(
                self.model, largest=method.gated.largest, shared_below=method.gated.shared_below
            )
        engine = Engine(self.vllm_generation, self.model) if self.use_vllm else None
        self._weighed = engine if method.mismatch.correction != "none" else None

    @property
    def _needs_old(self) -> bool:
        """Whether log-probabilities at sampling time are not the current ones, not the engine's, or in the reward."""
        kl = self.method.kl
        in_reward = kl.coefficient > 0 and kl.place != "loss"
        return self.method.updates_per_rollout > 1 or in_reward or self._weighed is not None

    @property
    def _measures_kl(self) -> bool:
        """Whether the next rollout's KL to the base is to be known, though it costs nothing."""
        every, rollout = self.method.kl.measure_every, self.state.global_step // self.method.updates_per_rollout
        possible = self.model.training and self.method.lora is not None
        return possible and bool(every) and rollout % every == 0

    def _generate(self, prompts: list[Any]) -> Any:
        with _timed(self._seconds, "rollout"), clear_generation_errors(self.args):
            return super()._generate(prompts)

    def _calculate_rewards(self, *args: Any) -> Tensor:
        """The rewards of all processes' responses [G * n, 1], kept for the advantages."""
        with _timed(self._seconds, "reward"):
            rewards: Tensor = super()._calculate_rewards(*args)
        self._rewards = rewards.sum(dim=1)
        return rewards

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """While a rollout is scored, keep what TRL computes: first the old log-probabilities, then the base's."""
        compute = partial(super()._get_per_token_logps_and_entropies, model)
        if self._scored is None:
            return without_padding(compute, *args, **kwargs)
        if not self.model.training or (not self._scored and not self._needs_old):
            ids, kept = args[0], args[2]
            result: Any = ids.new_zeros((len(ids), kept), dtype=torch.float32), None, None
        else:
            result = without_padding(compute, *args, **kwargs)
        self._scored.append(result[0])
        return result

    def _generate_and_score_completions(self, inputs: list[Any]) -> Rollout:
        """A rollout with the recipe's advantages [B, T] and what the loss needs; held-out ones are only graded."""
        started = time.perf_counter()
        self._seconds.clear()
        self._scored = []
        if self._by_row:
            self._by_row.alphas = torch.tensor([row["alpha"] for row in inputs], device=self.accelerator.device)
        self.beta = self.method.kl.coefficient or _NEXT_TO_NOTHING * self._measures_kl
        try:
            output: Rollout = super()._generate_and_score_completions(inputs)
            scored = self._scored
        finally:
            self._scored = None
        if not self.model.training:
            return output
        self._metrics["train"].pop("kl", None)  # TRL's k1 of the rollout; here it is k3 of each update
        if self._needs_old:
            output["old_per_token_logps"] = scored[0]
        if len(scored) > 1:
            output["ref_per_token_logps"] = scored[1]
        if self._by_row:
            output["alphas"] = self._by_row.alphas
        output["advantages"] = self._advantages(output)
        if self._weighed is not None:
            output["advantages"] = output["advantages"] * self._weights(output, self._weighed)
        for name, seconds in self._seconds.items():
            self._metrics["train"][f"seconds/{name}"].append(seconds)
        self._metrics["train"]["seconds/scoring"].append(time.perf_counter() - started - sum(self._seconds.values()))
        return output

    def _advantages(self, rollout: Rollout) -> Tensor:
        """The advantage of each local token [B, T]."""
        kl, mask = self.method.kl, rollout["completion_mask"].float()
        rewards, penalties = self._rewards, None
        if kl.coefficient and kl.place != "loss":
            penalties = kl.coefficient * kl_estimate(
                rollout["old_per_token_logps"], rollout["ref_per_token_logps"], kl.estimator
            )
            costs = self.accelerator.gather((penalties * mask).sum(dim=1))
            self._metrics["train"]["kl_cost"].append(costs.mean().item())
            if kl.place == "reward":
                rewards, penalties = rewards - costs, None
        groups = rewards.view(-1, self.num_generations)
        logged = (self._logs["extra"][name] for name in ("right", "tokens"))  # by the reward, of all processes
        right, tokens = (torch.tensor(list(one), device=groups.device).view_as(groups) for one in logged)
        count = len(self._joint) if self._joint else 1
        tiers = zip(groups.chunk(count), right.chunk(count), tokens.chunk(count), strict=True)
        treated = torch.cat([response_advantages(*tier, self.method) for tier in tiers]).flatten()
        self._response_advantages = treated
        start = self.accelerator.process_index * len(mask)
        found = over_tokens(treated[start : start + len(mask)], mask, penalties)
        if self.method.advantage != "whiten":
            return found
        return whiten(found, mask, lambda tensor: self.accelerator.reduce(tensor, reduction="sum"))

    def _weights(self, rollout: Rollout, engine: Engine) -> Tensor:
        """The weight of each local token [B, T] for its engine's not being the trainer; logs the gap."""
        trainer, mask, plan = rollout["old_per_token_logps"], rollout["completion_mask"].float(), self.method.mismatch
        sampled = engine.logps(trainer)
        for name, value in mismatch(trainer, sampled, mask, plan.largest)._asdict().items():
            self._metrics["train"][f"mismatch_{name}"].append(self.accelerator.gather(value).mean().item())
        return mismatch_weights(trainer, sampled, mask, plan.correction, plan.largest)

    def _compute_loss(self, model: Any, inputs: Rollout) -> Tensor:
        """The loss of one micro batch (`loss`); held-out problems have none."""
        if not self.model.training:
            return torch.zeros((), device=self.accelerator.device)
        if self._by_row:
            self._by_row.alphas = inputs["alphas"]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        mask, kept = inputs["completion_mask"].float(), inputs["completion_ids"].shape[1]
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, attention, kept, compute_entropy=True
        )
        old = inputs.get("old_per_token_logps", logps.detach())
        loss, clipped = policy_loss(logps, old, inputs["advantages"], mask, self.method)
        reference, kl = inputs.get("ref_per_token_logps"), self.method.kl
        if reference is not None and kl.coefficient and kl.place == "loss":
            penalty = kl_estimate(logps, reference, kl.estimator) * mask
            loss = loss + kl.coefficient * aggregate(penalty, mask, self.method)
        if self._joint:
            loss = loss * len(self._joint)  # each tier's is the mean of its own responses
        with torch.no_grad():
            self._log_mean("entropy", entropies, mask)
            if reference is not None:
                self._log_mean("kl", kl_estimate(logps, reference, "k3"), mask)
            self._metrics["train"]["clipped"].append(self.accelerator.gather(clipped).mean().item())
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        return self._joint.clip(model, self.args.max_grad_norm) if self._joint else super()._clip_grad_norm(model)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(*args, **kwargs)
        if self._joint:
            self._joint.activate(self.model)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the tokens generated a second, all processes together, and whether the last gradient was clipped."""
        if "grad_norm" in logs:
            logs["grad_clipped"] = float(logs["grad_norm"] > self.args.max_grad_norm)
        if self._rollouts and self.model.training and self._metrics["train"].get("tokens"):
            self._save_responses(self._rollouts)
        metrics = self._metrics["train"]
        if metrics.get("step_time") and metrics.get("completions/mean_length"):
            responses = self.args.per_device_train_batch_size * self.args.steps_per_generation
            tokens = sum(metrics["completions/mean_length"]) * responses * self.accelerator.num_processes
            metrics["tokens_per_second"].append(tokens / sum(metrics["step_time"]))
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As TRL's, with the same random numbers every time, and none of the training's."""
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.args.seed + self.accelerator.process_index)
            found: dict[str, float] = super().evaluate(*args, **kwargs)
        return found

    def _save_responses(self, file: RolloutFile) -> None:
        """Keep some responses of the last rollout, of all processes, with what they were worth."""
        logs, extra = self._logs, self._logs["extra"]
        if self.accelerator.is_main_process:
            columns = {
                "prompt": [conversation[-1]["content"] for conversation in logs["prompt"]],
                "answer": extra["answer"],
                "response": list(map(text_of, logs["completion"])),
                **{name: extra[name] for name in ("right", "tokens", "ended")},
                "reward": self._rewards.tolist(),
                "advantage": self._response_advantages.tolist(),
            }
            file.append(self.state.global_step, columns)

    def _log_mean(self, name: str, values: Tensor, mask: Tensor) -> None:
        """Log the mean over all processes' real tokens."""
        stats = self.accelerator.reduce(torch.stack([(values * mask).sum(), mask.sum()]), reduction="sum")
        self._metrics["train"][name].append((stats[0] / stats[1].clamp(min=1)).item())


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of the block to an entry."""
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
