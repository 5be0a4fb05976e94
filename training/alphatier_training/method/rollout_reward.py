"""The reward in the shape that TRL's trainers call: a whole local batch, groups side by side.

What: checks that groups are whole, grades, counts tokens, calls `reward.length_penalised_rewards`.
What not: no advantage (the trainer's own leave-one-out baseline is `reward.leave_one_out_advantages`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alphatier_training.errors import GroupError
from alphatier_training.method.reward import length_penalised_rewards

Grader = Callable[[str, str], bool]
"""(response, right answer) to whether it is right."""

LogMetric = Callable[[str, float], None]


def check_groups_whole(local_batch: int, steps_per_generation: int, samples_per_prompt: int) -> None:
    """Raise GroupError unless one process's share of a rollout is made of whole groups.

    TRL calls a reward with the rollouts of one process only, so a group that is split over two
    would be standardised by two different means.
    """
    share = local_batch * steps_per_generation
    if share % samples_per_prompt:
        raise GroupError(
            f"each process would sample {local_batch} x {steps_per_generation} = {share} responses a rollout, "
            f"which is no multiple of {samples_per_prompt} samples a prompt: a group would be split over processes. "
            "Change rl.prompts_per_rollout, rl.micro_batch or the number of processes."
        )


@dataclass(frozen=True)
class LengthPenalisedReward:
    """A TRL reward function: the paper's reward at one `alpha`.

    Lengths are those of the generated token ids, the end token included. A response whose last token
    is not an end token was cut off, and counts as wrong whatever it contains.
    """

    alpha: float
    samples_per_prompt: int
    end_token_ids: Collection[int]
    grade: Grader

    __name__ = "length_penalised_reward"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str],
        log_metric: LogMetric | None = None,
        **_unused: Any,
    ) -> list[float]:
        """One reward for each completion, in order; `answer` is the data set's column."""
        ended = [bool(ids) and ids[-1] in self.end_token_ids for ids in completion_ids]
        correct = [
            complete and self.grade(text_of(completion), right)
            for complete, completion, right in zip(ended, completions, answer, strict=True)
        ]
        lengths = [len(ids) for ids in completion_ids]
        if log_metric is not None:
            for name, value in _metrics(correct, lengths, ended):
                log_metric(name, value)
        return [
            reward
            for group in self._groups(prompts)
            for reward in length_penalised_rewards(correct[group], lengths[group], self.alpha)
        ]

    def _groups(self, prompts: Sequence[Any]) -> Iterator[slice]:
        if len(prompts) % self.samples_per_prompt:
            raise GroupError(
                f"{len(prompts)} responses are no whole groups of {self.samples_per_prompt}: "
                "a group was split over processes. Change rl.micro_batch or the number of processes."
            )
        for start in range(0, len(prompts), self.samples_per_prompt):
            group = slice(start, start + self.samples_per_prompt)
            if any(prompt != prompts[start] for prompt in prompts[group]):
                raise GroupError(
                    f"responses {start} to {group.stop - 1} should answer one prompt, but answer several: "
                    "the trainer's batch is not made of whole groups. Check num_generations and the data sampler."
                )
            yield group


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the content of its last message when it is a conversation."""
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    return str(text)


def _metrics(correct: Sequence[bool], lengths: Sequence[int], ended: Sequence[bool]) -> Iterator[tuple[str, float]]:
    yield "accuracy", sum(correct) / len(correct)
    yield "tokens", sum(lengths) / len(lengths)
    yield "truncated", 1 - sum(ended) / len(ended)
