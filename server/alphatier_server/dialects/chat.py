"""OpenAI's chat completions and completions (API reference, "Chat", "Completions (legacy)").

What changes in a whole answer is what `chunks` changes in a stream.
"""

from collections.abc import Mapping, Sequence
from operator import is_not
from typing import Any, ClassVar

from alphatier_server.dialects.chunks import ChunkRelay, RelayPlan
from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import TIER_FIELD, Selector, openai_efforts, take_effort_out
from alphatier_server.dialects.json_object import JsonObject, object_or_empty, objects_in
from alphatier_server.dialects.reasoning import split_message, with_reasoning_content
from alphatier_server.dialects.template import with_model
from alphatier_server.dialects.usage import Usage, queue_seconds_of, without_reasoning_tokens

_MODEL_ALONE = frozenset({"model"})


class _Completions(Dialect):
    splits: ClassVar[bool]
    """Whether thinking is told from the answer; else the text is left alone."""

    def efforts(self, body: Mapping[str, Any]) -> Sequence[Selector]:
        return openai_efforts(body)

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The engine's model name and priority; no selectors; running usage for streams: aborted ones count."""
        values = body.values
        replace: dict[str, Any] = {} if values["model"] == target.engine_model else {"model": target.engine_model}
        remove = {key for key in (TIER_FIELD, "reasoning_effort") if key in values}
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
        return ChunkRelay(self._plan(body, target))

    def edited_answer(self, answer: JsonObject, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        return edited_completion(answer, self._plan(body, target))

    def _plan(self, body: Mapping[str, Any], target: Target) -> RelayPlan:
        options = object_or_empty(body.get("stream_options"))
        return RelayPlan(
            model=target.model,
            marks=target.reasoning if self.splits else None,
            keep_usage=options.get("include_usage") is True,
            keep_continuous_usage=options.get("continuous_usage_stats") is True,
            strip_metrics=target.adds_metrics,
            reasoning_content=target.reasoning_content,
            choices=self._choices(body),
        )

    def _choices(self, body: Mapping[str, Any]) -> int | None:
        """How many choices each prompt of a batch gets; None where there is no batch."""
        return None


class ChatDialect(_Completions):
    """`POST /v1/chat/completions`."""

    path = "/v1/chat/completions"
    endpoint = "chat/completions"
    splits = True


class TextDialect(_Completions):
    """`POST /v1/completions`."""

    path = "/v1/completions"
    endpoint = "completions"
    splits = False

    def _choices(self, body: Mapping[str, Any]) -> int | None:
        choices = body.get("n")
        return choices if type(choices) is int and choices > 0 else 1


def edited_completion(answer: JsonObject, plan: RelayPlan) -> tuple[bytes, Observed]:
    """The client's bytes for a whole completion, and what was seen of it. Raises JsonError."""
    values = answer.values
    usage = Usage.parse(values.get("usage"))
    observed = Observed(usage, queue_seconds=queue_seconds_of(values))
    replace: dict[str, Any] = {} if values.get("model") == plan.model else {"model": plan.model}
    remove = ("metrics",) if plan.strip_metrics and "metrics" in values else ()
    choices = values.get("choices")
    if (plan.marks is not None or plan.reasoning_content) and isinstance(choices, list):
        split = [_split_choice(choice, plan) for choice in choices]
        if any(map(is_not, split, choices)):
            replace["choices"] = choices = split
    messages = [object_or_empty(choice.get("message")) for choice in objects_in(choices)]
    if usage is not None and usage.reasoning == 0 and any(message.get("reasoning") for message in messages):
        observed.usage = usage._replace(reasoning=None)
        replace["usage"] = without_reasoning_tokens(values["usage"])
    out = with_model(answer.raw, plan.model) if replace.keys() == _MODEL_ALONE and not remove else None
    return answer.edited(replace, remove) if out is None else out, observed


def _split_choice(choice: Any, plan: RelayPlan) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    split = message if plan.marks is None else split_message(message, plan.marks)
    if plan.reasoning_content:
        split = with_reasoning_content(split)
    return choice if split is message else {**choice, "message": split}
