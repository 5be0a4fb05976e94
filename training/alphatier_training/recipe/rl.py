"""The RL runs of a recipe: the paper's method with every switch on which its text and its code differ.

Defaults are the paper's text (arXiv 2502.04463); "authors' code" is its repository.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from alphatier_training.penalties import Gate, Penalty, SigmoidPenalty
from alphatier_training.recipe.problems import DataSet
from alphatier_training.recipe.sections import Alpha, Section, Share


class Selection(Section):
    """Which responses of a group are trained on (GFPO, arXiv 2508.09726)."""

    keep: Annotated[int, Field(ge=2)] = Field(description="responses of a group that are trained on")
    by: Literal["shortest", "efficient"] = Field(
        "shortest", description="shortest: the fewest tokens, right or wrong; efficient: the most reward a token"
    )


class Loss(Section):
    """From advantages to the loss."""

    aggregation: Literal["token_sum", "sequence_mean"] = Field(
        "token_sum",
        description="mean over responses of the sum over tokens / constant (paper), or of the mean over tokens "
        "(authors' code; favours short responses)",
    )
    constant: PositiveFloat | None = Field(
        None,
        description="what `token_sum` divides by, the same for all responses, tokens; null for `rl.max_new_tokens`. "
        "Far below the responses' length rl.gradient_clip binds at every step, and weak signals count as strong ones",
    )
    ratio: Literal["token", "sequence"] = Field(
        "token", description="what is clipped: each token's ratio (PPO, paper), or the whole response's (TRL)"
    )
    clip_range: PositiveFloat = Field(0.2, description="PPO's clip of the ratio (paper: 0.2); no effect on-policy")
    clip_range_high: PositiveFloat | None = Field(
        None, description="the clip above 1; null for clip_range. Clip-higher: 0.28 (DAPO, arXiv 2503.14476; DLER)"
    )


class Kl(Section):
    """Staying near the base."""

    coefficient: NonNegativeFloat = Field(0.0, description="weight of the KL to the base (authors' code: 1e-3)")
    place: Literal["reward", "reward_to_go", "loss"] = Field(
        "reward",
        description="reward: the response's sum, before the baseline (TRL); reward_to_go: from a token on, after it "
        "(authors' code); loss: a term of its own",
    )
    measure_every: NonNegativeInt = Field(
        10, description="with coefficient 0, rollouts between measurements of the KL of an adapter; 0 never"
    )
    estimator: Literal["k1", "k2", "k3"] = Field(
        "k1",
        description="of d = log p - log q: k1 d (authors' code), k2 d^2 / 2, k3 exp(-d) - 1 + d; k1 not in the loss",
    )

    def faults(self) -> Iterator[str]:
        if self.place == "loss" and self.estimator == "k1":
            yield "estimator: k1 has no gradient in the loss (its mean is 0); choose k2 or k3"


class MismatchPlan(Section):
    """Rollouts of vLLM, whose probabilities are not quite the trainer's."""

    correction: Literal["none", "sequence_mask", "token_truncate"] = Field(
        "sequence_mask",
        description="the weight of what vLLM samples: sequence_mask p / q of the response, 0 above the largest "
        "(TRL's GRPO); token_truncate each token's, at most the largest; none, and then nothing is measured either",
    )
    largest: PositiveFloat = Field(3.0, description="the largest ratio p / q")


class Lora(Section):
    """The adapter that a tier is."""

    rank: PositiveInt = Field(16, description="rank of the adapter, on all linear layers but the head")
    scale: PositiveFloat = Field(32, description="LoRA's own alpha (the update is scaled by scale / rank)")
    dropout: Share = Field(0.0, description="share of the adapter's inputs dropped in training")


class Gated(Section):
    """One run for every alpha: each prompt has an alpha of its own, which turns half of the adapter."""

    largest: Annotated[float, Field(gt=0, lt=1)] = Field(0.8, description="alphas are drawn from 0 to this")
    shared_below: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.05, description="prompts of an alpha below this train the half that alpha does not turn"
    )
    shared: Share = Field(0.25, description="their share of a rollout; the others spread evenly up to the largest")
    gaps: tuple[tuple[Alpha, Alpha], ...] = Field((), description="ranges of alpha that no prompt has, from and to")

    def faults(self) -> Iterator[str]:
        if self.shared_below >= self.largest:
            yield f"shared_below: {self.shared_below:g} is not below the largest alpha, {self.largest:g}"
        ends = [self.shared_below, *(end for gap in self.gaps for end in gap), self.largest]
        if sorted(set(ends)) != ends:
            yield "gaps: give each from its lower to its upper end, in order, between shared_below and largest"


class Alarm(Section):
    """When a run has collapsed: it stops, and the best checkpoint so far becomes the tier."""

    window: PositiveInt = Field(10, description="rollouts that are averaged, now and at their best")
    accuracy_drop: Share = Field(0.3, description="fall of the accuracy below its best, a share of the best")
    accuracy_floor: Share = Field(0.0, description="mean accuracy of a window below this; 0 for no floor")
    token_share: Share = Field(0.05, description="mean tokens below this share of the first window's")
    truncated: Share = Field(0.9, description="share of responses cut off")


class Heldout(Section):
    """Problems outside the training, tried now and then in the course of a run."""

    every: PositiveInt = Field(10, description="rollouts between two measurements")
    problems: PositiveInt = Field(
        32, description="problems, the first ones; each is tried `samples_per_prompt` times, as in a rollout"
    )
    data: DataSet | None = Field(None, description="where they are from; null for the built-in held-out problems")


class Reinforcement(Section):
    """One RL run an alpha: TRL's RLOO trainer with the paper's reward."""

    seed: int | None = Field(None, description="of prompts and rollouts; null for the recipe's")
    steps: PositiveInt = Field(description="rollouts; the paper's runs have 100")
    prompts_per_rollout: PositiveInt = Field(32, description="prompts a rollout (paper: 32)")
    samples_per_prompt: Annotated[int, Field(ge=2)] = Field(8, description="responses a prompt (paper: 8)")
    max_prompt_tokens: PositiveInt = Field(512, description="problems with a longer prompt are dropped (paper: 512)")
    max_new_tokens: PositiveInt = Field(256, description="a response is cut off here, tokens, and is then wrong")
    temperature: PositiveFloat = Field(1.0, description="of the rollouts (paper: 1)")
    penalty: Penalty = Field(SigmoidPenalty(kind="sigmoid"), description="what length costs a correct response")
    length: Literal["response", "prompt_and_response"] = Field(
        "response", description="which tokens count (paper: the response's; authors' code: the prompt's too)"
    )
    alpha_warmup_steps: NonNegativeInt = Field(
        0, description="rollouts over which alpha grows linearly from 0 (Kimi k1.5 warms up; paper: 0)"
    )
    gate: Gate = Field(Gate(), description="how much of the penalty a group gets")
    advantage: Literal["none", "whiten", "group_std", "batch_std"] = Field(
        "none",
        description="none: reward less the mean of the group's others (paper); whiten: that, whitened over the "
        "rollout's tokens (authors' code); batch_std: that, whitened over its responses (DLER, arXiv 2510.15110); "
        "group_std: the group's z-score (GRPO; alpha then hardly matters)",
    )
    length_baseline: Literal["group", "right"] = Field(
        "group",
        description="what the reward's length term is compared with: the group's, as part of the reward (paper), or "
        "that of the other right responses alone (DCA, arXiv 2602.02099)",
    )
    right_below_zero: bool = Field(
        True,
        description="whether a right response may have a negative advantage (paper); false after DRPO, "
        "arXiv 2510.04474",
    )
    degenerate_groups: Literal["keep", "drop"] = Field(
        "keep",
        description="drop: groups all right or all wrong are not trained on (DLER, without its refill)",
    )
    selection: Selection | None = Field(None, description="which responses of a group are trained on; null for all")
    updates_per_rollout: PositiveInt = Field(
        1, description="optimiser steps a rollout; 1 is on-policy, authors' code 2"
    )
    loss: Loss = Field(Loss(), description="from advantages to the loss")
    kl: Kl = Field(Kl(), description="staying near the base")
    mismatch: MismatchPlan = Field(
        MismatchPlan(), description="rollouts of vLLM, whose probabilities are not quite the trainer's"
    )
    micro_batch: PositiveInt | None = Field(
        None, description="responses a forward pass and process; null for all of an update's, too many for a GPU"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="after warm-up (paper, full weights: 5e-6, 2e-6)")
    learning_rate_end: Share = Field(
        1.0, description="the rate falls linearly to this share of it at the last rollout; 1: constant (paper)"
    )
    warmup_steps: NonNegativeInt = Field(0, description="rollouts of linear warm-up; the first has rate 0")
    adam_betas: tuple[Share, Share] = Field((0.9, 0.95), description="Adam's betas (authors' code)")
    weight_decay: NonNegativeFloat = Field(0.0, description="AdamW's weight decay (authors' code: 0)")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the gradient (authors' code: 1)")
    lora: Lora | None = Field(
        Lora(), description="the adapter; null: all weights are trained (paper), a tier is a checkpoint"
    )
    gated: Gated | None = Field(
        None, description="one run that gives every alpha, with an adapter that alpha turns; null: a run an alpha"
    )
    joint: bool = Field(
        False,
        description="one run for all tiers: an adapter each, side by side, which only its own responses train, and "
        "has as many of them as alone; false: a run an alpha",
    )
    checkpoint_every: PositiveInt = Field(10, description="rollouts between checkpoints (authors' code: 10)")
    checkpoints_kept: Annotated[int, Field(ge=2)] = Field(
        2, description="checkpoints kept: the newest, and the best by measured Pareto rank of accuracy and tokens"
    )
    keep_steps: bool = Field(
        False, description="whether each checkpoint's tier stays in OUT/work/steps, to be evaluated or served"
    )
    heldout: Heldout | None = Field(
        None, description="held-out accuracy in the course of a run, which then ranks the checkpoints; null for none"
    )
    rollouts_saved: NonNegativeInt = Field(
        8, description="responses of each rollout that are kept in OUT/work/rollouts, to be read; 0 for none"
    )
    alarm: Alarm | None = Field(Alarm(), description="when a run has collapsed; null never")

    @property
    def loss_constant(self) -> float:
        """What `loss.aggregation: token_sum` divides by, tokens."""
        return self.loss.constant or self.max_new_tokens

    def faults(self) -> Iterator[str]:
        responses = self.prompts_per_rollout * self.samples_per_prompt
        if responses % self.updates_per_rollout:
            yield (
                f"updates_per_rollout: {responses} responses do not divide by {self.updates_per_rollout}; "
                "choose a divisor"
            )
        if self.micro_batch and (responses // self.updates_per_rollout) % self.micro_batch:
            yield (
                f"micro_batch: {responses // self.updates_per_rollout} responses an update do not divide by "
                f"{self.micro_batch}; choose a divisor"
            )
        if self.selection and self.selection.keep > self.samples_per_prompt:
            yield (
                f"selection.keep: {self.selection.keep} of {self.samples_per_prompt} responses a prompt cannot be "
                "kept; choose less, or more samples_per_prompt"
            )
        if self.gated and (self.lora is None or self.lora.rank % 2):
            yield "gated: the adapter's two halves share its rank; set lora.rank to an even number"
        for name in ("gated", "joint"):
            if getattr(self, name) and (self.updates_per_rollout > 1 or self.kl.coefficient):
                yield f"{name}: needs updates_per_rollout 1 and kl.coefficient 0"
        if self.joint and (self.lora is None or self.gated):
            yield "joint: the tiers are adapters side by side; set lora, and leave out gated"
        if self.joint and (self.penalty.remembers or self.advantage == "whiten"):
            yield "joint: needs a penalty that remembers nothing, and an advantage other than whiten"
        if self.length_baseline == "right" and self.advantage == "group_std":
            yield "length_baseline: group_std standardises the whole reward; set advantage to another"
        bounded = self.selection or self.degenerate_groups == "drop" or not self.right_below_zero
        if bounded and self.advantage == "whiten":
            yield (
                "advantage: whiten shifts every response's; with selection, degenerate_groups or right_below_zero "
                "take batch_std or none"
            )
        if self.loss.ratio == "sequence" and self.mismatch.correction == "token_truncate":
            yield "loss.ratio: a whole response has one weight; set mismatch.correction to sequence_mask"
        if self.loss.ratio == "sequence" and self.kl.coefficient and self.kl.place == "reward_to_go":
            yield "loss.ratio: a whole response has one advantage, but kl.place reward_to_go one a token"
