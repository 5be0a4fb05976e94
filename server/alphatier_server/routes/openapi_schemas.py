"""What the gateway's OpenAPI document says of bodies, headers and errors: data for `openapi`.

Bodies list the fields that the gateway reads, with their types, and the most used ones that it passes on;
all others are allowed, as the APIs' own references describe them.
"""

from typing import Any

from alphatier_models import EFFORTS
from alphatier_server.dialects.efforts import LONGEST_DEADLINE_MS
from alphatier_server.dialects.messages import ANTHROPIC_EFFORTS

Schema = dict[str, Any]


def _header(description: str, **schema: Any) -> Schema:
    return {"description": description, "schema": {"type": "string", **schema}}


def _parameter(name: str, description: str, **schema: Any) -> Schema:
    return {"name": name, "in": "header", "required": False, **_header(description, **schema)}


def _or_null(kind: str, **schema: Any) -> Schema:
    return {"type": [kind, "null"], **schema}


def _object(required: list[str], properties: Schema, **more: Any) -> Schema:
    values = {"type": "object", "required": required, "properties": properties, "additionalProperties": True}
    return {**values, **more}


RATE_LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")
]
_RATE_LIMIT = _header("As in OpenAI's API, where the key has such a limit; a reset is a duration like 1s or 6m0s.")
HEADERS: Schema = {
    "x-request-id": _header("The request's id: the client's own, where it was a plain token."),
    "x-alphatier-tier": _header("The tier that ran."),
    "x-alphatier-alpha": _header("The tier's length penalty; absent for the untouched base.", pattern=r"^[0-9.e-]+$"),
    "x-alphatier-decision": _header(
        "The rule that chose the tier.",
        enum=["explicit", "effort", "default", "auto", "deadline", "budget", "brownout", "fallback"],
    ),
    "x-alphatier-version": _header("The version of the tier that ran, where a new one is tried: the name of a tier."),
    "x-alphatier-expected": _header("What was expected of the tier: chance of being right, tokens, seconds."),
    "x-alphatier-otherwise": _header("The tier without the rule that chose."),
    "x-alphatier-shortest-deadline": _header(
        "Seconds that could be met, where the deadline is too short.", type="number"
    ),
    "x-alphatier-unlike": _header("In what the prompt is unlike all that the family's router knows."),
    "retry-after": _header("Seconds to wait.", type="integer", minimum=0),
    **dict.fromkeys(RATE_LIMIT_HEADERS, _RATE_LIMIT),
}
_REQUEST_ID = "Kept where it is 1 to 128 letters, digits, dots, underscores or dashes; else replaced."
_DEADLINE = "Seconds within which the answer must be complete; then it ends with 504."
PARAMETERS: Schema = {
    "Tier": _parameter("X-Efficiency-Tier", "A tier's name, or `auto`."),
    "Deadline": _parameter("X-Request-Timeout", _DEADLINE, type="number", exclusiveMinimum=0),
    "RequestId": _parameter("X-Request-Id", _REQUEST_ID),
}
SECURITY_SCHEMES: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway has keys."},
    "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, Anthropic's way."},
}

_TEXT: Schema = {"type": "string"}
_PASSED_ON = "OpenAI's request; fields not listed go to the engine unchanged."
_MODEL: Schema = {"type": "string", "description": "`<family>`, `<family>:<tier>` or `<family>:auto`."}
_STREAM = _or_null("boolean", description="Answer as server-sent events.")
_TIER = _or_null("string", description="A tier's name, or `auto`.")
_SHARE = _or_null(
    "number",
    description="How far from the most thorough tier (0) to the shortest (1), in measured tokens. "
    "With auto, where a router weighs the prompt: its price, from the most accurate to the fewest tokens.",
    minimum=0,
    maximum=1,
)
_DEADLINE_MS = _or_null(
    "number",
    description="Milliseconds for the whole answer; of a request that names no tier it chooses one that is in time.",
    exclusiveMinimum=0,
    maximum=LONGEST_DEADLINE_MS,
)
_EFFORT: Schema = {"enum": [*EFFORTS, None], "description": "Mapped to a tier by the family."}
_CAP = "The engine ends the thinking after so many tokens, whatever the tier."
_BUDGET = _or_null("integer", description=_CAP, minimum=0)
_SAMPLING: Schema = {
    "temperature": _or_null("number", minimum=0, maximum=2),
    "top_p": _or_null("number", exclusiveMinimum=0, maximum=1),
    "seed": _or_null("integer", minimum=-(2**63), maximum=2**63 - 1),
    "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
}
_STREAM_OPTIONS: Schema = {"include_usage": _or_null("boolean"), "continuous_usage_stats": _or_null("boolean")}
_COMMON: Schema = {
    "model": _MODEL,
    "stream": _STREAM,
    "stream_options": _or_null("object", properties=_STREAM_OPTIONS),
    "efficiency_tier": _TIER,
    "efficiency": _SHARE,
    "deadline_ms": _DEADLINE_MS,
    "reasoning_effort": _EFFORT,
    "reasoning": _or_null("object", properties={"effort": _EFFORT}),
    "thinking_token_budget": _BUDGET,
    "n": _or_null("integer", minimum=1),
    **_SAMPLING,
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"]}}
_TOOLS = _or_null("array", items={"type": "object"})
_THINKS = (
    "`disabled` chooses the tier of the effort `none`; a budget chooses a tier that fits, and caps the thinking."
)
_THINKING = _or_null(
    "object",
    description=_THINKS,
    properties={
        "type": {"enum": ["enabled", "disabled", "adaptive"]},
        "budget_tokens": {"type": "integer", "minimum": 1},
    },
    required=["type"],
)
_OUTPUT_CONFIG = _or_null(
    "object", properties={"effort": {**_EFFORT, "enum": [*ANTHROPIC_EFFORTS, None]}, "format": _or_null("object")}
)
_ANTHROPIC: Schema = {
    "model": _MODEL,
    "messages": _MESSAGES,
    "efficiency_tier": _TIER,
    "efficiency": _SHARE,
    "deadline_ms": _DEADLINE_MS,
    "thinking": _THINKING,
    "output_config": _OUTPUT_CONFIG,
    "system": {"type": ["string", "array", "null"], "items": {"type": "object"}},
    "tools": _TOOLS,
    "tool_choice": _or_null("object"),
}
_NOT_STORED = "Responses are not stored: anything but this is a 400."
_ERROR: Schema = {
    "message": _or_null("string"),
    "type": _or_null("string"),
    "param": _or_null("string"),
    "code": {"type": ["string", "integer", "null"]},
}
_ANTHROPIC_ERROR: Schema = {
    "type": {"const": "error"},
    "error": _object(["type", "message"], {"type": _TEXT, "message": _TEXT}),
    "request_id": _TEXT,
}
SCHEMAS: Schema = {
    "ChatCompletionRequest": _object(
        ["model", "messages"],
        {
            **_COMMON,
            "messages": _MESSAGES,
            "max_completion_tokens": _or_null("integer", minimum=1),
            "logprobs": _or_null("boolean"),
            "top_logprobs": _or_null("integer", minimum=0, maximum=20),
            "response_format": _or_null("object"),
            "tools": _TOOLS,
            "tool_choice": {"type": ["string", "object", "null"]},
            "parallel_tool_calls": _or_null("boolean"),
        },
        description=_PASSED_ON,
    ),
    "CompletionRequest": _object(
        ["model", "prompt"],
        {
            **_COMMON,
            "prompt": {"type": ["string", "array"], "items": {"type": ["string", "integer", "array"]}},
            "max_tokens": _or_null("integer", minimum=0),
            "logprobs": _or_null("integer", minimum=0),
        },
        description=_PASSED_ON,
    ),
    "ResponseRequest": _object(
        ["model", "input"],
        {
            "model": _MODEL,
            "input": {"type": ["string", "array"], "items": {"type": "object"}},
            "instructions": _or_null("string"),
            "stream": _STREAM,
            "efficiency_tier": _TIER,
            "efficiency": _SHARE,
            "deadline_ms": _DEADLINE_MS,
            "reasoning": _or_null("object", properties={"effort": _EFFORT}),
            "max_output_tokens": _or_null("integer", minimum=1),
            "text": _or_null("object"),
            "tools": _TOOLS,
            "tool_choice": {"type": ["string", "object", "null"]},
            "store": {"enum": [False, None], "description": _NOT_STORED},
            "background": {"enum": [False, None], "description": _NOT_STORED},
            "previous_response_id": {"type": "null", "description": _NOT_STORED},
            "conversation": {"type": "null", "description": _NOT_STORED},
            **_SAMPLING,
        },
        description=_PASSED_ON,
    ),
    "MessageRequest": _object(
        ["model", "messages", "max_tokens"],
        {
            **_ANTHROPIC,
            "max_tokens": {"type": "integer", "minimum": 1},
            "stream": _STREAM,
            "stop_sequences": _or_null("array", items={"type": "string"}),
            "temperature": _or_null("number", minimum=0),
            "top_p": _or_null("number", exclusiveMinimum=0, maximum=1),
            "top_k": _or_null("integer"),
        },
        description="Anthropic's request; fields not listed go to the engine unchanged.",
    ),
    "CountTokensRequest": _object(["model", "messages"], _ANTHROPIC, description="Anthropic's request."),
    "Error": _object(["error"], {"error": _object(["message"], _ERROR)}),
    "AnthropicError": _object(["type", "error"], _ANTHROPIC_ERROR),
}
