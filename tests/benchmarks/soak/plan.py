"""What each request of a soak asks for and with which key, which fault its engine shows, how its client behaves.

A plan is a pure function of the seed and the request's number, so that the engines, the clients and the
audit agree on it without telling each other.
"""

import random
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.soak.keys import KEYS

APIS = {"chat": 45, "completions": 15, "responses": 20, "messages": 20}
"""Which API is asked, and how often."""

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}

TIERS = ("base", "careful", "terse")

BOTH, WHOLE, STREAM = "both", "whole", "stream"

FAULTS: dict[str, tuple[str, int]] = {
    # before the head of the answer
    "stall_head": (BOTH, 1),
    "late_head": (BOTH, 6),
    "reset_head": (BOTH, 4),
    "close_head": (BOTH, 4),
    "garbage_head": (BOTH, 2),
    "half_head": (BOTH, 2),
    "endless_head": (BOTH, 1),
    "quiet_head": (BOTH, 2),
    "quiet_error": (BOTH, 1),
    "close_next": (BOTH, 8),
    "close_after": (BOTH, 8),
    "interim": (BOTH, 2),
    "interim_only": (BOTH, 1),
    "interim_flood": (BOTH, 1),
    "switching": (BOTH, 1),
    "status_299": (BOTH, 1),
    "status_401": (BOTH, 1),
    "status_403": (BOTH, 1),
    "status_407": (BOTH, 1),
    "status_460": (BOTH, 1),
    "status_499": (BOTH, 1),
    "status_502": (BOTH, 2),
    "status_599": (BOTH, 1),
    "status_400": (BOTH, 2),
    "status_429": (BOTH, 2),
    "status_500": (BOTH, 2),
    "status_503": (BOTH, 2),
    "status_html": (BOTH, 2),
    "redirect": (BOTH, 1),
    "redirect_html": (BOTH, 1),
    "no_content": (BOTH, 1),
    # framing
    "short_length": (WHOLE, 3),
    "long_length": (WHOLE, 3),
    "extra_response": (BOTH, 3),
    "two_lengths": (WHOLE, 2),
    "until_close": (BOTH, 3),
    "bad_chunk": (BOTH, 2),
    # bodies
    "not_json": (WHOLE, 2),
    "json_array": (WHOLE, 1),
    "deep_json": (WHOLE, 1),
    "odd_answer": (BOTH, 2),
    "huge": (BOTH, 1),
    # streams
    "stall_mid": (STREAM, 1),
    "reset_mid": (STREAM, 6),
    "close_mid": (STREAM, 6),
    "end_mid": (STREAM, 3),
    "no_done": (STREAM, 3),
    "error_event": (STREAM, 3),
    "after_done": (STREAM, 3),
    "split": (STREAM, 8),
    "crlf": (STREAM, 4),
    "comments": (STREAM, 4),
    "slow": (STREAM, 8),
    "sized_events": (STREAM, 4),
    "bad_utf8": (STREAM, 2),
    # usage that lies
    "usage_absent": (BOTH, 3),
    "usage_negative": (BOTH, 3),
    "usage_strings": (BOTH, 3),
    "usage_huge": (BOTH, 2),
    "usage_float": (BOTH, 2),
    "usage_list": (BOTH, 2),
    "usage_reasoning": (BOTH, 3),
    "usage_twice": (STREAM, 3),
}
"""Fault -> the kind of answer that it can spoil, and how often it is drawn beside the others."""

HEALTHY = frozenset({"none", "late_head", "close_next", "close_after", "interim", "until_close", "no_done"})
HEALTHY |= {"after_done", "split", "crlf", "comments", "slow", "huge", "extra_response"}
HEALTHY |= {"quiet_head", "sized_events"}
"""Behind these the answer is whole and its usage true: a client gets it unless the engine dies as well."""

BEARABLE = frozenset(name for name in FAULTS if name.startswith("usage_"))
BEARABLE |= {"deep_json", "odd_answer", "two_lengths", "bad_utf8", "status_299", "interim_flood"}
"""Behind these a client may get the answer as the engine gave it, or an error; behind all others only an error."""

MANNERS = {"stay": 80, "leave_upload": 2, "leave_early": 5, "leave_midway": 6, "leave_at_end": 3, "slow_reader": 2}
"""What clients do, and how often."""

FAULT_SHARE = 0.25
DEADLINE_SHARE = 0.1
INVALID_SHARE = 0.02
BATCH_SHARE = 0.3
"""Of completions, whose prompt may be a list of prompts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One request. Times are seconds."""

    number: int
    request_id: str
    api: str
    key: str
    stream: bool
    tier: str
    tokens: int
    fault: str
    manner: str
    moment: float
    """For `leave_early`: seconds after sending. For `leave_midway`: the share of the events seen."""
    abrupt: bool
    """Leave with a reset instead of an orderly end."""
    deadline: float | None
    invalid: bool
    """The body is no valid JSON."""
    prompts: int
    """Prompts in one request; each has an answer of its own, a choice."""

    @property
    def path(self) -> str:
        return PATHS[self.api]

    @property
    def prompt_tokens(self) -> int:
        return 5 + self.number % 40

    @property
    def reasoning_tokens(self) -> int | None:
        """What an honest engine reports; plain completions have no reasoning."""
        return None if self.api == "completions" else self.tokens // 2

    @property
    def refusal(self) -> str | None:
        """Why the gateway must refuse it, whatever happens: one of `keys.REFUSALS`. None where it must not."""
        key = KEYS[self.key]
        if not key.listed:
            return "missing_api_key" if self.key == "absent" else "invalid_api_key"
        if key.revoked:
            return "revoked_api_key"
        allowed = key.tiers is None or self.tier in {name.rpartition(":")[2] for name in key.tiers}
        return None if self.invalid or allowed else "tier_not_allowed"

    @property
    def text(self) -> str:
        """What an honest engine answers, thinking and all; whole answers have one choice after the other."""
        choices = 1 if self.stream else self.prompts
        return "".join("".join(pieces(self.request_id, self.tokens)[each::choices]) for each in range(choices))

    def body(self) -> bytes:
        """The request's body. Everything under `soak` is for the fault engine."""
        if self.invalid:
            return b'{"model": "toy", "messages": [' + self.request_id.encode()
        orders = {"id": self.request_id, "fault": self.fault, "tokens": self.tokens, "prompt": self.prompt_tokens}
        return orjson.dumps({"model": f"toy:{self.tier}", "stream": self.stream, "soak": orders, **self._question()})

    def _question(self) -> dict[str, Any]:
        options = {"stream_options": {"include_usage": True}} if self.stream else {}
        questions: dict[str, dict[str, Any]] = {
            "chat": {"messages": [{"role": "user", "content": "?"}], **options},
            "completions": {"prompt": "?" if self.prompts == 1 else ["?"] * self.prompts, **options},
            "responses": {"input": "?"},
            "messages": {"messages": [{"role": "user", "content": "?"}], "max_tokens": 64},
        }
        return questions[self.api]


def piece(request_id: str, number: int) -> str:
    """The text of an answer's token: no two requests' answers are the same."""
    return f" {request_id}:{number}"


def pieces(request_id: str, tokens: int) -> list[str]:
    """All of them; of several choices, each in turn says the next."""
    return [piece(request_id, number) for number in range(tokens)]


def plan(seed: int, number: int) -> Plan:
    """The plan of request `number`."""
    dice = random.Random(seed * 1_000_003 + number)
    stream = dice.random() < 0.6
    fault = _fault(dice, stream) if dice.random() < FAULT_SHARE else "none"
    manner = dice.choices(tuple(MANNERS), tuple(MANNERS.values()))[0]
    api = dice.choices(tuple(APIS), tuple(APIS.values()))[0]
    key = dice.choices(tuple(KEYS), tuple(key.weight for key in KEYS.values()))[0]
    batch = api == "completions" and dice.random() < BATCH_SHARE
    return Plan(
        number=number,
        request_id=f"soak-{seed}-{number}",
        api=api,
        key=key,
        stream=stream,
        tier=dice.choice(TIERS),
        tokens=dice.randint(1, 24),
        fault="huge" if manner == "slow_reader" else fault,
        manner=manner,
        moment=dice.random(),
        abrupt=dice.random() < 0.5,
        deadline=round(dice.uniform(0.1, 2.0), 3) if dice.random() < DEADLINE_SHARE else None,
        invalid=manner == "stay" and dice.random() < INVALID_SHARE,
        # A batch that no state of the key's limits would let in is the client's fault, not a refusal.
        prompts=dice.randint(2, min(4, KEYS[key].limits.get("concurrent_requests", 4))) if batch else 1,
    )


def _fault(dice: random.Random, stream: bool) -> str:
    kinds = (BOTH, STREAM if stream else WHOLE)
    fitting = {name: weight for name, (kind, weight) in FAULTS.items() if kind in kinds}
    return dice.choices(tuple(fitting), tuple(fitting.values()))[0]
