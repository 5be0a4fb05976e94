"""The reward in the shape that TRL's trainers call: a whole local batch, groups side by side.

What: checks that groups are whole, grades, counts tokens, calls the recipe's penalty.
What not: no advantage (`advantages`).
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import gather_object  # type: ignore[import-untyped]

from alphatier_training.errors import TrainingError
from alphatier_training.penalties import Group, Memory
from alphatier_training.recipe.rl import Reinforcement


@dataclass(frozen=True)
class LengthPenalisedReward:
    """A TRL reward function: the rewards of the recipe's penalty at one `alpha`, or at each prompt's.

    Lengths are those of the generated token ids, the end token included. A response whose last token
    is not an end token was cut off, and counts as wrong whatever it contains.
    """

    alpha: float
    method: Reinforcement
    end_token_ids: Collection[int]
    grade: Callable[[Sequence[str], Sequence[str]], Sequence[bool]]
    """(responses, right answers) to whether each is right."""

    __name__ = "length_penalised_reward"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str],
        prompt_tokens: Sequence[int],
        target_tokens: Sequence[int] | None = None,
        alpha: Sequence[float] | None = None,
        heldout: Sequence[bool] = (),
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        log_extra: Callable[[str, list[Any]], None] = lambda name, values: None,
        **_unused: Any,
    ) -> list[float]:
        """One reward for each completion, in order; from `answer` to `heldout` they are the data set's columns."""
        ended = [bool(ids) and ids[-1] in self.end_token_ids for ids in completion_ids]
        correct = self._graded(completions, answer, ended)
        lengths = [len(ids) for ids in completion_ids]
        for name, value in _metrics(correct, lengths, ended):
            log_metric(name, value)
        for name, values in (("answer", answer), ("right", correct), ("tokens", lengths), ("ended", ended)):
            log_extra(name, list(values))
        rollout = trainer_state.global_step // self.method.updates_per_rollout if trainer_state else 0
        targets, alphas = target_tokens or [0] * len(lengths), alpha or [self.alpha] * len(lengths)
        groups = [
            self._group(
                alphas[of.start],
                rollout,
                prompts[of.start],
                correct[of],
                lengths[of],
                prompt_tokens[of],
                targets[of.start],
            )
            for of in self._groups(prompts)
        ]
        if not self.method.penalty.remembers:
            rewards = self.method.penalty.rollout(groups, {})
        else:
            memory = trainer_state.stateful_callbacks.setdefault("penalty", {}) if trainer_state else {}
            rewards = self._remembered(groups, dict(memory) if heldout else memory)
        return [reward for group in rewards for reward in group]

    def _group(
        self,
        alpha: float,
        rollout: int,
        prompt: Any,
        correct: Sequence[bool],
        lengths: list[int],
        own: Sequence[int],
        target: int,
    ) -> Group:
        method, counted = self.method, max(own) if self.method.length == "prompt_and_response" else 0
        return Group(
            correct=correct,
            lengths=[length + counted for length in lengths],
            alpha=method.gate.pressure(alpha, correct, rollout=rollout, warmup=method.alpha_warmup_steps),
            longest=method.max_new_tokens + counted,
            problem=hashlib.sha256(repr(prompt).encode()).hexdigest()[:16],
            target=target,
        )

    def _remembered(self, groups: list[Group], memory: Memory) -> list[list[float]]:
        """The rewards of this process's groups; the memory is of those of all processes, in each the same."""
        everyone = gather_object([groups])
        rewards = self.method.penalty.rollout([group for local in everyone for group in local], memory)
        before = sum(len(local) for local in everyone[: PartialState().process_index])
        return rewards[before : before + len(groups)]

    def _graded(self, completions: Sequence[Any], answers: Sequence[str], ended: Sequence[bool]) -> list[bool]:
        """Whether each response is right; only those that ended are graded."""
        complete = [number for number, whole in enumerate(ended) if whole]
        texts, wanted = [text_of(completions[number]) for number in complete], [answers[n] for n in complete]
        right = dict(zip(complete, self.grade(texts, wanted), strict=True))
        return [right.get(number, False) for number in range(len(ended))]

    def _groups(self, prompts: Sequence[Any]) -> Iterator[slice]:
        """TRL gives the rollouts of one process: a group split over two would be compared with two means."""
        size = self.method.samples_per_prompt
        if len(prompts) % size:
            raise TrainingError(
                f"{len(prompts)} responses are no whole groups of {size}: "
                "a group was split over processes. Change rl.micro_batch or the number of processes."
            )
        for start in range(0, len(prompts), size):
            group = slice(start, start + size)
            if any(prompt != prompts[start] for prompt in prompts[group]):
                raise TrainingError(
                    f"responses {start} to {group.stop - 1} should answer one prompt, but answer several: "
                    "the trainer's batch is not made of whole groups. Check num_generations and the data sampler."
                )
            yield group


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the content of its last message when it is a conversation."""
    return str(completion if isinstance(completion, str) else completion[-1]["content"])


def _metrics(correct: Sequence[bool], lengths: Sequence[int], ended: Sequence[bool]) -> Iterator[tuple[str, float]]:
    """What is worth watching; means of right and of wrong responses only where there are some."""
    yield "accuracy", sum(correct) / len(correct)
    yield "tokens", fmean(lengths)
    yield "truncated", 1 - sum(ended) / len(ended)
    for name, wanted in (("tokens_right", True), ("tokens_wrong", False)):
        chosen = [length for length, right in zip(lengths, correct, strict=True) if right is wanted]
        if chosen:
            yield name, fmean(chosen)
