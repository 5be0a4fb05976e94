"""What the gateway's OpenAPI document says of bodies, headers and errors: data for `openapi`.

Bodies list the fields that the gateway reads, with their types, and the most used ones that it passes on;
all others are allowed, as the APIs' own references describe them.
"""

from typing import Any

from alphatier_models import EFFORTS
from alphatier_server.dialects.messages import ANTHROPIC_EFFORTS

Schema = dict[str, Any]


def _header(description: str, **schema: Any) -> Schema:
    return {"description": description, "schema": {"type": "string", **schema}}


def _or_null(kind: str, description: str = "", **schema: Any) -> Schema:
    return {"type": [kind, "null"], **({"description": description} if description else {}), **schema}


def _object(required: list[str], properties: Schema, description: str = "") -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": True,
        **({"description": description} if description else {}),
    }


RATE_LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")
]
HEADERS: Schema = {
    "x-request-id": _header("The request's id: the client's own, where it was a plain token."),
    "x-alphatier-tier": _header("The tier that ran."),
    "x-alphatier-alpha": _header("The tier's length penalty; absent for the untouched base.", pattern=r"^[0-9.e-]+$"),
    "x-alphatier-decision": _header(
        "The rule that chose the tier.",
        enum=["explicit", "effort", "default", "auto", "deadline", "budget", "brownout", "fallback"],
    ),
    "retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    **{
        name: _header("As in OpenAI's API, where the key has such a limit; a reset is a duration like 1s or 6m0s.")
        for name in RATE_LIMIT_HEADERS
    },
}
PARAMETERS: Schema = {
    "Tier": {
        "name": "X-Efficiency-Tier",
        "in": "header",
        "required": False,
        "description": "A tier's name, or `auto`.",
        "schema": {"type": "string"},
    },
    "Deadline": {
        "name": "X-Request-Timeout",
        "in": "header",
        "required": False,
        "description": "Seconds within which the answer must be complete; then it ends with 504.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "Kept where it is 1 to 128 letters, digits, dots, underscores or dashes; else replaced.",
        "schema": {"type": "string"},
    },
}
SECURITY_SCHEMES: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway has keys."},
    "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, Anthropic's way."},
}

_MODEL: Schema = {"type": "string", "description": "`<family>`, `<family>:<tier>` or `<family>:auto`."}
_STREAM = _or_null("boolean", "Answer as server-sent events.")
_TIER = _or_null("string", "A tier's name, or `auto`.")
_EFFORT: Schema = {"enum": [*EFFORTS, None], "description": "Mapped to a tier by the family."}
_BUDGET = _or_null("integer", "The engine ends the thinking after so many tokens, whatever the tier.", minimum=0)
_SAMPLING: Schema = {
    "temperature": _or_null("number", minimum=0, maximum=2),
    "top_p": _or_null("number", exclusiveMinimum=0, maximum=1),
    "seed": _or_null("integer", minimum=-(2**63), maximum=2**63 - 1),
    "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
}
_COMMON: Schema = {
    "model": _MODEL,
    "stream": _STREAM,
    "stream_options": _or_null(
        "object",
        properties={"include_usage": _or_null("boolean"), "continuous_usage_stats": _or_null("boolean")},
    ),
    "efficiency_tier": _TIER,
    "reasoning_effort": _EFFORT,
    "reasoning": _or_null("object", properties={"effort": _EFFORT}),
    "thinking_token_budget": _BUDGET,
    "n": _or_null("integer", minimum=1),
    **_SAMPLING,
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"]}}
_TOOLS = _or_null("array", items={"type": "object"})
_THINKING = _or_null(
    "object",
    "`disabled` chooses the tier of the effort `none`; a budget chooses a tier that fits, and caps the thinking.",
    properties={
        "type": {"enum": ["enabled", "disabled", "adaptive"]},
        "budget_tokens": {"type": "integer", "minimum": 1},
    },
    required=["type"],
)
_OUTPUT_CONFIG = _or_null(
    "object",
    properties={
        "effort": {"enum": [*ANTHROPIC_EFFORTS, None], "description": "Mapped to a tier by the family."},
        "format": _or_null("object"),
    },
)
_ANTHROPIC: Schema = {
    "model": _MODEL,
    "messages": _MESSAGES,
    "efficiency_tier": _TIER,
    "thinking": _THINKING,
    "output_config": _OUTPUT_CONFIG,
    "system": {"type": ["string", "array", "null"], "items": {"type": "object"}},
    "tools": _TOOLS,
    "tool_choice": _or_null("object"),
}
_NOT_STORED = "Responses are not stored: anything but this is a 400."
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
        "OpenAI's request; fields not listed go to the engine unchanged.",
    ),
    "CompletionRequest": _object(
        ["model", "prompt"],
        {
            **_COMMON,
            "prompt": {"type": ["string", "array"], "items": {"type": ["string", "integer", "array"]}},
            "max_tokens": _or_null("integer", minimum=0),
            "logprobs": _or_null("integer", minimum=0),
        },
        "OpenAI's request; fields not listed go to the engine unchanged.",
    ),
    "ResponseRequest": _object(
        ["model", "input"],
        {
            "model": _MODEL,
            "input": {"type": ["string", "array"], "items": {"type": "object"}},
            "instructions": _or_null("string"),
            "stream": _STREAM,
            "efficiency_tier": _TIER,
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
        "OpenAI's request; fields not listed go to the engine unchanged.",
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
        "Anthropic's request; fields not listed go to the engine unchanged.",
    ),
    "CountTokensRequest": _object(["model", "messages"], _ANTHROPIC, "Anthropic's request."),
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "message": {"type": ["string", "null"]},
                    "type": {"type": ["string", "null"]},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
}
