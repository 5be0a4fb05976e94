"""One engine to run, as planned: what `plan` writes and `managed` carries out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from alphatier_models import EditError, Family, Tier, hub
from alphatier_models.files import base_folder
from alphatier_models.vocabulary import can_write_json
from alphatier_models.weights import read_object
from alphatier_server.engines.adapters import Adapter
from alphatier_server.errors import EngineError

EngineKind = Literal["vllm", "transformers"]


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One engine to run: the command (given a port), its environment, and what it will serve."""

    name: str
    kind: EngineKind
    family: str
    models: dict[str, str]
    """Tier name -> the model name under which the engine serves it."""
    command: Callable[[int], list[str]]
    environment: dict[str, str]
    shape: tuple[str, ...]
    """What cannot be changed while the engine runs. Two specs of one shape differ in their adapters only."""
    preload: tuple[str, ...] = ()
    """Models that the engine loads only when asked to (`transformers serve`)."""
    adapters: tuple[Adapter, ...] = ()
    """Those among the tiers that can be changed while the engine runs."""
    max_lora_rank: int | None = None
    """The highest rank that the engine can load; None where it takes no adapters at run time."""
    base_name: str | None = None
    """The engine's name for the untouched base."""
    gpus: int = 0
    """How many GPUs it takes; 0 where it runs without one."""
    by_priority: bool = False
    """Whether it heeds the priority of each request."""
    writes_json: bool = True
    """Whether the vocabulary holds what a JSON object needs."""


def model_location(family: Family, folder: Path) -> str:
    """What an engine is told to load: the base's folder if it is one, else its hub id."""
    local = base_folder(family, folder)
    return str(local.resolve()) if local is not None else family.base.model


def writes_json(family: Family, folder: Path) -> bool:
    """Whether the family's models can write a JSON object; true where that cannot be told."""
    local = base_folder(family, folder)
    return local is None or _can_write_json(local) is not False


_can_write_json = cache(can_write_json)
"""Of a folder, looked at once: engines are shown again every few seconds."""


def base_on_disk(family: Family, folder: Path) -> Path:
    """The base's folder, fetched from the hub if it is there. Raises EngineError."""
    with told():
        return hub.base_on_disk(family, folder)


def tier_on_disk(tier: Tier, folder: Path) -> Path:
    """Where a tier's own weights are, fetched from the hub if they are there. Raises EngineError."""
    with told():
        path = hub.tier_on_disk(tier, folder)
    assert path is not None, tier
    return path


def adapter_of(family: Family, tier: Tier, folder: Path) -> Adapter:
    """An adapter, on this machine; its rank is not looked up. Raises EngineError."""
    assert tier.identity is not None
    path = tier_on_disk(tier, folder)
    return Adapter(f"{family.name}:{tier.name}", tier.identity, path, pinned=tier.hub is not None)


@contextmanager
def told() -> Iterator[None]:
    """Faults of the family's files, in the engines' words: EngineError in place of EditError."""
    try:
        yield
    except EditError as error:
        raise EngineError(str(error)) from error


def read_json(file: Path) -> dict[str, object]:
    """The JSON object in a file of a model. Raises EngineError."""
    with told():
        return read_object(file, "Restore it from training.")
