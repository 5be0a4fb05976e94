"""OpenAI's chat completions and completions (API reference, "Chat", "Completions (legacy)")."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from alphatier_models import Reasoning
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.completion import RelayPlan, relay_response
from alphatier_server.dialects.dialect import Dialect, Observed, Relay, Target
from alphatier_server.dialects.efforts import TIER_FIELD, Selector, openai_efforts
from alphatier_server.dialects.json_object import JsonObject


class _Completions(Dialect):
    def efforts(self, body: Mapping[str, Any]) -> Sequence[Selector]:
        """`reasoning_effort`, and `reasoning.effort` as some clients send it."""
        if "reasoning_effort" in body or "reasoning" in body:
            return openai_efforts(body)
        return ()

    def engine_body(self, body: JsonObject, target: Target) -> bytes:
        """The engine's model name and priority; no selectors; running usage for streams: aborted ones count."""
        values = body.values
        model = target.engine_model
        replace: dict[str, Any] = {} if values["model"] == model else {"model": model}
        remove = [key for key in (TIER_FIELD, "reasoning_effort") if key in values]
        reasoning = values.get("reasoning")
        if isinstance(reasoning, dict) and "effort" in reasoning:
            rest = {key: value for key, value in reasoning.items() if key != "effort"}
            if rest:
                replace["reasoning"] = rest
            else:
                remove.append("reasoning")
        if target.priority is not None:
            replace["priority"] = target.priority
        if values.get("stream") is True:
            options = values.get("stream_options")
            if options is None or isinstance(options, dict):
                wanted = {"include_usage": True, "continuous_usage_stats": True}
                replace["stream_options"] = {
                    **(options or {}),
                    **(wanted if target.continuous_usage else {"include_usage": True}),
                }
        return body.edited(replace, remove) if replace or remove else body.raw

    def relay(self, body: Mapping[str, Any], target: Target) -> Relay:
        """The relay of a stream of chunks."""
        return ChunkRelay(self._plan(body, target))

    def answer(self, raw: bytes, body: Mapping[str, Any], target: Target) -> tuple[bytes, Observed]:
        """The client's bytes for a completion."""
        return relay_response(raw, self._plan(body, target))

    def _plan(self, body: Mapping[str, Any], target: Target) -> RelayPlan:
        options = body.get("stream_options")
        options = options if isinstance(options, dict) else {}
        return RelayPlan(
            model=target.model,
            marks=self._marks(target),
            keep_usage=options.get("include_usage") is True,
            keep_continuous_usage=options.get("continuous_usage_stats") is True,
            strip_metrics=target.adds_metrics,
            reasoning_content=target.reasoning_content,
            choices=self._choices(body),
        )

    def _choices(self, body: Mapping[str, Any]) -> int | None:
        """How many choices each prompt of a batch gets; None where there is no batch."""
        return None

    @abstractmethod
    def _marks(self, target: Target) -> Reasoning | None:
        """How thinking is told from the answer; None to leave the text alone."""


class ChatDialect(_Completions):
    """`POST /v1/chat/completions`."""

    path = "/v1/chat/completions"
    endpoint = "chat/completions"

    def _marks(self, target: Target) -> Reasoning | None:
        return target.reasoning


class TextDialect(_Completions):
    """`POST /v1/completions`."""

    path = "/v1/completions"
    endpoint = "completions"

    def _marks(self, target: Target) -> Reasoning | None:
        return None

    def _choices(self, body: Mapping[str, Any]) -> int | None:
        choices = body.get("n")
        return choices if type(choices) is int and choices > 0 else 1
