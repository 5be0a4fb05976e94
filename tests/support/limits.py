"""What a limit's store says to a request of Alice's."""

from alphatier_server.limits.arithmetic import Limits, Outcome
from alphatier_server.limits.store import Reservation, Store


async def ask(
    store: Store, limits: Limits, tokens: int = 1, *, streamed: bool = False, requests: int = 1
) -> Reservation | Outcome:
    """Whatever it says."""
    return await store.take(limits.call("alice", streamed=streamed, tokens=tokens, requests=requests))


async def place(
    store: Store, limits: Limits, tokens: int = 1, *, streamed: bool = False, requests: int = 1
) -> Reservation:
    """A place, which there must be."""
    answer = await ask(store, limits, tokens, streamed=streamed, requests=requests)
    assert isinstance(answer, Reservation), answer
    return answer


async def refusal(store: Store, limits: Limits, tokens: int = 1, *, streamed: bool = False) -> str | None:
    """The limit that is reached, as one must be."""
    answer = await ask(store, limits, tokens, streamed=streamed)
    assert isinstance(answer, Outcome)
    return answer.refused
