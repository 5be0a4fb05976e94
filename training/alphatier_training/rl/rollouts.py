"""Some responses of every rollout, kept as JSON lines, so that a reward that is gamed can be seen.

    OUT/work/rollouts/alpha-0.4.jsonl   {"step": 12, "prompt": …, "answer": …, "response": …, "right": true,
                                         "tokens": 61, "ended": true, "reward": 0.83, "advantage": 0.11}

What: the file's one writer; whole lines, at most so many a rollout, none of steps that a killed run takes again.
What not: nothing of what is in them.
"""

import json
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from alphatier_training.run.folder import write_text


class RolloutFile:
    """The responses kept of one tier's rollouts."""

    def __init__(self, path: Path, most: int) -> None:
        """At most `most` responses a rollout are kept, the first ones."""
        self.path, self._most = path, most

    def append(self, step: int, columns: Mapping[str, Iterable[Any]]) -> None:
        """Add the first responses of the rollout before optimiser step `step`, from columns of all."""
        rows = islice(zip(*columns.values(), strict=True), self._most)
        lines = [json.dumps({"step": step, **dict(zip(columns, row, strict=True))}) + "\n" for row in rows]
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def forget_after(self, step: int) -> None:
        """Drop what a killed run wrote after the `step` that it goes on from, and a line that the kill cut short."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8") as stream:
            whole = [line for line in stream if line.endswith("\n")]
        write_text(self.path, "".join(line for line in whole if json.loads(line)["step"] <= step))
