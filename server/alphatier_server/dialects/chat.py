"""OpenAI's chat completions and completions (API reference, "Chat", "Completions (legacy)")."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from alphatier_server.dialects.bodies import object_or_empty, take_member_out
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.completion import RelayPlan, relay_response
from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import TIER_FIELD, Selector, openai_efforts
from alphatier_server.dialects.json_object import JsonObject


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
            take_member_out(values, "reasoning", "effort", replace, remove)
        if target.priority is not None:
            replace["priority"] = target.priority
        if values.get("stream") is True:
            options = values.get("stream_options")
            if options is None or isinstance(options, dict):
                wanted = {"include_usage": True} | (
                    {"continuous_usage_stats": True} if target.continuous_usage else {}
                )
                replace["stream_options"] = {**(options or {}), **wanted}
        return body.edited(replace, remove) if replace or remove else body.raw

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        return ChunkRelay(self._plan(body, target))

    def answer(self, raw: bytes, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        return relay_response(raw, self._plan(body, target))

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
