"""How many tokens a request will use, before it has run: what a key's tokens-a-minute limit holds back for it.

The prompt counts one token for four bytes of the body, as OpenAI's rate limits do; the answer what the client allows
it at most, or what nine of ten answers of the tier stayed below when it was measured, whichever is less. What was
really used is booked at the end, so the estimate only decides how many requests may start at once.
"""

from collections.abc import Mapping
from typing import Any

from alphatier_models import Tier

BYTES_PER_TOKEN = 4
ANSWER_TOKENS = 512
"""For a tier that was never measured, where the client sets no maximum."""
_MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens")


_USUAL: dict[int, tuple[Tier, int]] = {}
"""What was found before, by the tier's id; the tier is compared."""
_MOST_KNOWN = 1024


def estimate_tokens(body_bytes: int, values: Mapping[str, Any], tier: Tier) -> int:
    """Prompt and answer tokens of a request with this parsed body."""
    answer = _usual(tier)
    for name in _MAXIMA:
        if name in values and 0 < (given := _count(values[name])) < answer:
            answer = given
    if "n" in values:
        answer *= _count(values["n"]) or 1
    return body_bytes // BYTES_PER_TOKEN + answer


def _usual(tier: Tier) -> int:
    known = _USUAL.get(id(tier))
    if known is not None and known[0] is tier:
        return known[1]
    evaluation = tier.evaluation()
    tokens = ANSWER_TOKENS if evaluation is None else int(evaluation.token_percentiles.p90)
    if len(_USUAL) >= _MOST_KNOWN:
        _USUAL.clear()
    _USUAL[id(tier)] = (tier, tokens)
    return tokens


def _count(value: Any) -> int:
    """The value where it is a sensible count, else 0: the engine judges what is not."""
    return value if type(value) is int and 0 < value <= 1_000_000 else 0
