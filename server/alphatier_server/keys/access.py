"""What the request path asks of access control, and the answer where no keys are configured."""

from dataclasses import dataclass
from typing import Protocol

from alphatier_server.settings.overload import PriorityClass


@dataclass(frozen=True)
class Caller:
    """Who sent a request. `name` is the key's name in the key file, never the key; None for an open gateway."""

    name: str | None = None
    default_tier: str | None = None
    """The tier for this caller's requests that choose none, instead of the family's default."""
    priority: PriorityClass = "normal"
    """Who goes first when the gateway is overloaded."""


class Admission(Protocol):
    """A call that was let in. `close` must be called exactly once, whatever happened."""

    @property
    def lines(self) -> bytes:
        """`x-ratelimit-*` headers for the answer, each with its CR LF; empty without limits."""
        ...

    def close(self, tokens: int | None) -> None:
        """The request has ended: free its places, and book the tokens it used.

        0 where nothing was generated (refused by the engine, never sent); None where it is not known how many
        (a client that left an answer that was not streamed), which books the estimate.
        """
        ...


class Free:
    """An admission without limits."""

    lines = b""

    def close(self, tokens: int | None) -> None:
        """Nothing to give back."""


FREE = Free()
ANYONE = Caller()


class Access:
    """Access control. By itself it is open, as where no keys are configured: everybody may do all but administer."""

    def caller(self, authorization: str | None, api_key: str | None) -> Caller:
        """Who sends these headers (`Authorization: Bearer KEY`; Anthropic's `x-api-key: KEY`).

        Raises Unauthorized.
        """
        return ANYONE

    def admin(self, authorization: str | None, api_key: str | None) -> str | None:
        """The name of the administrator whose key these headers carry; None where it is none. Never raises."""
        return None

    def allow(self, caller: Caller, family: str, tier: str) -> None:
        """Raises Forbidden when the caller may not use the tier."""

    def may_use(self, caller: Caller, family: str, tier: str) -> bool:
        """Whether the caller may use the tier: what a list of models shows. Never raises."""
        return True

    async def admit(self, caller: Caller, *, streamed: bool, tokens: int, requests: int = 1) -> Admission:
        """Let a call in within the caller's limits. `tokens` and `requests` are what `limits.estimate` says of it.

        Raises RateLimited; InvalidRequest for a batch that no state of the limits would let in; LimitsUnavailable
        where a shared store is gone and the operator chose to refuse. A cancelled call holds nothing; await this
        directly, not as a task.
        """
        return FREE

    async def watch(self) -> None:
        """Follow changes of the keys and keep the store of limits in order; runs until it is cancelled."""

    async def close(self) -> None:
        """Send what is not sent yet, within a limit of time; after the last admission was closed."""
