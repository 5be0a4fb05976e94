"""How many requests and tokens a call will use, before it has run: what a key's limits hold back for it.

A batch of prompts counts as that many requests. The prompts count one token for four bytes of the body, as OpenAI's
rate limits do, and no less than the token ids they hold; each answer what the client allows it at most, or what
nine of ten answers of the tier stayed below when it was measured, whichever is less. What was really used is booked
at the end, so the estimate only decides how many calls may start at once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from alphatier_models import Tier

BYTES_PER_TOKEN = 4
ANSWER_TOKENS = 512
"""For a tier that was never measured, where the client sets no maximum."""
_MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_CHOICES = ("n", "best_of")
_PROMPTS = ("prompt", "prompt_embeds")


class Estimate(NamedTuple):
    """What one call will use."""

    requests: int
    """Prompts of a batch; 1 where there is no batch."""
    tokens: int
    """Of all its prompts and all their answers."""


def estimate(body_bytes: int, values: Mapping[str, Any], tier: Tier) -> Estimate:
    """For a call with this parsed body."""
    requests, ids = _prompts(values)
    return Estimate(requests, max(body_bytes // BYTES_PER_TOKEN, ids) + requests * _answer_tokens(values, tier))


def most_tokens(values: Mapping[str, Any]) -> int | None:
    """The most tokens that a body lets one answer have; None where it does not say."""
    return min((count for name in _MAXIMA if name in values and (count := _count(values[name]))), default=None)


def _prompts(values: Mapping[str, Any]) -> tuple[int, int]:
    """How many prompts, and how many token ids in them.

    The first item tells a list of ids, which is one prompt, from a list of prompts; engines refuse a mixture.
    """
    count = ids = 0
    for name in _PROMPTS:
        given = values.get(name)
        if not isinstance(given, list) or not given:
            continue
        if isinstance(given[0], int):
            count, ids = count + 1, ids + len(given)
        else:
            count += len(given)
            ids += sum(len(prompt) for prompt in given if isinstance(prompt, list))
    return max(1, count), ids


def _answer_tokens(values: Mapping[str, Any], tier: Tier) -> int:
    """Of all the answers to one prompt."""
    answer = int(tier.evaluations[0].token_percentiles.p90) if tier.evaluations else ANSWER_TOKENS
    if (most := most_tokens(values)) is not None:
        answer = min(answer, most)
    choices = 1
    for name in _CHOICES:
        if name in values:
            choices = max(choices, _count(values[name]))
    return answer * choices


def _count(value: Any) -> int:
    """The value where it is a sensible count, else 0: the engine judges what is not."""
    return value if type(value) is int and 0 < value <= 1_000_000 else 0
