"""What several modules ask for: the family `toy`, to be read or to be changed, and servers beside the gateway."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from alphatier_models import Family
from support.fake_engine import FakeEngine, completion, fake_engine
from support.families import small_family
from support.fleets import VLLM, NewFleet, RunningFleet, running_fleet
from support.fuzzing import ANSWER
from support.raw_engine import RawEngine, raw_engine, whole
from support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The family `toy`; its folder is everybody's."""
    return small_family(tmp_path_factory.mktemp("families") / "toy")


@pytest.fixture
def families(family: Family) -> dict[str, Family]:
    """The family by its name."""
    return {family.name: family}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder of the test's own with the family `toy`."""
    small_family(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What is entered here is left when the test ends."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def engines(stack: AsyncExitStack) -> list[FakeEngine]:
    """Two engines that somebody else runs."""
    return [await stack.enter_async_context(fake_engine(completion())) for _ in range(2)]


@pytest.fixture
def engine() -> Iterator[RawEngine]:
    """An engine that sends one answer, or the bytes that it is told to."""
    with raw_engine() as made:
        made.script = [whole(ANSWER)]
        yield made


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def fleet(tmp_path: Path, toy: Path) -> NewFleet:
    """Makes a gateway that serves `toy` and runs engines, of these settings."""
    return partial(running_fleet, tmp_path, [toy])


@pytest.fixture
async def running(fleet: NewFleet) -> AsyncIterator[RunningFleet]:
    """A gateway with one vLLM, `toy-vllm`, which is up."""
    async with fleet([VLLM], wait=["toy-vllm"]) as running:
        yield running
