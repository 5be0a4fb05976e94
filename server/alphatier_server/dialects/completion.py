"""A whole completion or chat completion, from the engine's bytes to the client's; what its parts mean. No I/O.

What changes is what `chunks` changes in a stream.
"""

from dataclasses import dataclass
from operator import is_not
from typing import Any

from alphatier_models import Reasoning
from alphatier_server.dialects.bodies import edited_answer, object_or_empty, read_answer
from alphatier_server.dialects.dialect import Observed
from alphatier_server.dialects.reasoning import split_message, with_reasoning_content
from alphatier_server.dialects.template import with_model
from alphatier_server.dialects.usage import Usage, without_reasoning_tokens

_MODEL_ALONE = frozenset({"model"})


@dataclass(slots=True)
class RelayPlan:
    """What to change in the answer to one request."""

    model: str
    """The public model name."""
    marks: Reasoning | None = None
    """How the family marks its thinking; None to leave the text alone (plain completions)."""
    keep_usage: bool = False
    """The client asked for a usage chunk (`stream_options.include_usage`)."""
    keep_continuous_usage: bool = False
    """The client asked for usage in every chunk (`stream_options.continuous_usage_stats`)."""
    strip_metrics: bool = False
    """The engine adds `metrics` because the gateway asked it to; the client did not."""
    reasoning_content: bool = False
    """The client gets the thinking as `reasoning_content` as well."""
    choices: int | None = None
    """How many answers each prompt of a batch gets; None where there is one prompt."""
    learns: bool = True
    """Whether chunks may go past the parser once their envelope is known (`template`)."""


def relay_response(raw: bytes, plan: RelayPlan) -> tuple[bytes, Observed]:
    """The client's bytes for a whole (not streamed) answer. Raises EngineFailed when it is no JSON object."""
    document = read_answer(raw)
    values = document.values
    usage = Usage.parse(values.get("usage"))
    observed = Observed(usage)
    replace: dict[str, Any] = {}
    remove: tuple[str, ...] = ()
    if values.get("model") != plan.model:
        replace["model"] = plan.model
    if "metrics" in values:
        observed.queue_seconds = queue_seconds_of(values)
        if plan.strip_metrics:
            remove = ("metrics",)
    choices = values.get("choices")
    if (plan.marks is not None or plan.reasoning_content) and isinstance(choices, list):
        split = [_split_choice(choice, plan) for choice in choices]
        if any(map(is_not, split, choices)):
            replace["choices"] = choices = split
    if usage is not None and usage.reasoning == 0 and _has_reasoning(choices):
        observed.usage = usage.without_reasoning()
        replace["usage"] = without_reasoning_tokens(values["usage"])
    out = with_model(raw, plan.model) if replace.keys() == _MODEL_ALONE and not remove else None
    return edited_answer(document, replace, remove) if out is None else out, observed


def _split_choice(choice: Any, plan: RelayPlan) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    split = message if plan.marks is None else split_message(message, plan.marks)
    if plan.reasoning_content:
        split = with_reasoning_content(split)
    return choice if split is message else {**choice, "message": split}


def _has_reasoning(choices: Any) -> bool:
    """Whether any choice's message carries reasoning."""
    messages = (object_or_empty(choice).get("message") for choice in (choices if isinstance(choices, list) else ()))
    return any(object_or_empty(message).get("reasoning") for message in messages)


def queue_seconds_of(document: dict[str, Any]) -> float | None:
    """Seconds in the engine's queue (vLLM, `--enable-per-request-metrics`)."""
    value = object_or_empty(document.get("metrics")).get("queue_time_ms")
    return value / 1000 if isinstance(value, int | float) else None
