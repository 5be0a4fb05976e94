r"""Whether a response is right: its last `\boxed{}` against the answer. Training and evaluation share it.

What: `spelling.judge` (alphatier_models) for what is certain, math-verify in a bounded pool of processes
for the rest, and a cache of what math-verify said.
What not: no tolerance of a factor 100: `50%` is `50` and not `0.5`; no other place for an answer than the box, but
for an answer that is a sentence, such as a refusal: a response without a box is right when it says that, and nothing
else, after its thinking. Truncation is not seen here: callers, who know the token ids, count it as wrong.

>>> is_correct(r"17 + 25 = 42</think>\boxed{42}", "42")
True
>>> is_correct("The answer is 42.", "42")
False
>>> is_correct("Hm.</think>I can only add numbers.", "I can only add numbers.")
True
>>> are_correct([r"\boxed{\frac12}", r"\boxed{50\%}"], ["0.5", "0.5"])
[True, False]
"""

from collections.abc import Sequence

from alphatier_models.answers import last_box
from alphatier_models.spelling import judge
from alphatier_training.grading.pool import Pool, Statistics

__all__ = ["Statistics", "are_correct", "is_correct", "last_box", "statistics"]

COMPARISON_SECONDS = 3.0
"""Processor time that one comparison may take; a longer one is wrong (the authors' code allows 1 s)."""

SENTENCE_WORDS = 4
"""An answer of so many words, and no LaTeX, is a sentence."""

_pool = Pool(COMPARISON_SECONDS)

statistics = _pool.statistics


def is_correct(response: str, answer: str) -> bool:
    r"""Whether the last `\boxed{}` of `response` equals `answer`.

    Without one, whether `answer` is a sentence, and what the response says.

    Raises:
        TrainingError: The process that compares cannot be started.
    """
    return are_correct([response], [answer])[0]


def are_correct(responses: Sequence[str], answers: Sequence[str]) -> list[bool]:
    """`is_correct` of each response and its answer; equal pairs are graded once, slow ones side by side.

    Raises:
        ValueError: There are not as many answers as responses.
        TrainingError: The process that compares cannot be started.
    """
    pairs = [(last_box(response), answer) for response, answer in zip(responses, answers, strict=True)]
    judged = {(box, answer): box is not None and judge(box, answer) for box, answer in set(pairs)}
    compared = _pool.are_equal(sorted({open_ for open_ in judged.values() if not isinstance(open_, bool)}))
    verdicts = {pair: one if isinstance(one, bool) else compared[one] for pair, one in judged.items()}
    return [
        verdicts[pair] or (pair[0] is None and _is_sentence(pair[1]) and _said(response) == pair[1])
        for pair, response in zip(pairs, responses, strict=True)
    ]


def _is_sentence(answer: str) -> bool:
    return len(answer.split()) >= SENTENCE_WORDS and "\\" not in answer


def _said(response: str) -> str:
    """What follows the thinking."""
    return response.rpartition("</think>")[2].strip()
