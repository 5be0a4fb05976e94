"""Which of the machine's GPUs each engine gets, where there are more than one engine needs."""

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property


@cache
def visible_gpus() -> tuple[str, ...]:
    """The GPUs that engines may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(listing.stdout.split())


def engines_per_gpu(engines: int, each: int, gpus: int) -> int:
    """How many engines share a GPU when `engines` that take `each` of them are spread over all."""
    places = max(1, gpus // max(1, each))
    return -(-engines // places)


class Devices:
    """Who has which GPU. An engine gets those that the fewest others have.

    `gpus` is asked when the first engine needs one: the answer takes time.
    """

    def __init__(self, gpus: Callable[[], Sequence[str]] = visible_gpus) -> None:
        self._gpus = gpus

    @cached_property
    def _users(self) -> Counter[str]:
        return Counter(dict.fromkeys(self._gpus(), 0))

    @contextmanager
    def taken(self, count: int) -> Iterator[dict[str, str]]:
        """The environment of an engine that takes `count` GPUs; empty where there is no choice."""
        if count < 1 or len(self._users) <= count:
            yield {}
            return
        least_used = sorted(self._users, key=lambda gpu: self._users[gpu])[:count]
        chosen = [gpu for gpu in self._users if gpu in least_used]
        self._users.update(chosen)
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}
        finally:
            self._users.subtract(chosen)
