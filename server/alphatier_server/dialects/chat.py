"""OpenAI's chat completions and completions (API reference, "Chat", "Completions (legacy)").

What changes in a whole answer is what `chunks` changes in a stream.
"""

from collections.abc import Mapping, Sequence
from operator import is_not
from typing import Any, ClassVar

from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import SELECTOR_FIELDS, Selector, openai_efforts, take_effort_out
from alphatier_server.dialects.json_object import JsonObject, object_or_empty, objects_in
from alphatier_server.dialects.reasoning import split_message, with_reasoning_content
from alphatier_server.dialects.template import with_model
from alphatier_server.dialects.usage import Usage, queue_seconds_of, without_reasoning_tokens

_MODEL_ALONE = frozenset({"model"})


class _Completions(Dialect):
    batches: ClassVar[bool] = False
    """Whether a request may have several prompts."""

    def efforts(self, body: Mapping[str, Any]) -> Sequence[Selector]:
        return openai_efforts(body)

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The engine's model name and priority; no selectors; running usage for streams: aborted ones count."""
        values = body.values
        replace: dict[str, Any] = {} if values["model"] == target.engine_model else {"model": target.engine_model}
        remove = {key for key in (*SELECTOR_FIELDS, "reasoning_effort") if key in values}
        if "reasoning" in values:
            take_effort_out(values, "reasoning", replace, remove)
        if target.priority is not None:
            replace["priority"] = target.priority
        if values.get("stream") is True:
            options = values.get("stream_options")
            if options is None or isinstance(options, dict):
                replace["stream_options"] = wanted = {**(options or {}), "include_usage": True}
                if target.continuous_usage:
                    wanted["continuous_usage_stats"] = True
        return body.edited(replace, remove)

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        options, n = object_or_empty(body.get("stream_options")), body.get("n")
        answers = n if type(n) is int and n > 0 else 1
        return ChunkRelay(
            target,
            keep_usage=options.get("include_usage") is True,
            keep_continuous_usage=options.get("continuous_usage_stats") is True,
            choices=answers if self.batches else None,
        )

    def edited_answer(self, answer: JsonObject, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        return edited_completion(answer, target)


class ChatDialect(_Completions):
    """`POST /v1/chat/completions`."""

    path = "/v1/chat/completions"
    endpoint = "chat/completions"


class TextDialect(_Completions):
    """`POST /v1/completions`."""

    path = "/v1/completions"
    endpoint = "completions"
    batches = True


def edited_completion(answer: JsonObject, target: Target) -> tuple[bytes, Observed]:
    """The client's bytes for a whole completion, and what was seen of it. Raises JsonError."""
    values = answer.values
    usage = Usage.parse(values.get("usage"))
    observed = Observed(usage, queue_seconds=queue_seconds_of(values) if "metrics" in values else None)
    replace: dict[str, Any] = {} if values.get("model") == target.model else {"model": target.model}
    remove = ("metrics",) if target.adds_metrics and "metrics" in values else ()
    choices = values.get("choices")
    observed.cut_off = any(choice.get("finish_reason") == "length" for choice in objects_in(choices))
    if (target.reasoning is not None or target.reasoning_content) and isinstance(choices, list):
        split = [_split_choice(choice, target) for choice in choices]
        if any(map(is_not, split, choices)):
            replace["choices"] = choices = split
    if usage is not None and usage.reasoning == 0 and _has_reasoning(choices):
        observed.usage = usage._replace(reasoning=None)
        replace["usage"] = without_reasoning_tokens(values["usage"])
    out = with_model(answer.raw, target.model) if replace.keys() == _MODEL_ALONE and not remove else None
    return answer.edited(replace, remove) if out is None else out, observed


def _split_choice(choice: Any, target: Target) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    split = message if target.reasoning is None else split_message(message, target.reasoning)
    if target.reasoning_content:
        split = with_reasoning_content(split)
    return choice if split is message else {**choice, "message": split}


def _has_reasoning(choices: Any) -> bool:
    """Whether any choice's message carries reasoning."""
    return any(object_or_empty(choice.get("message")).get("reasoning") for choice in objects_in(choices))
