"""How far a benchmark is, on standard error: a bar on a terminal, elsewhere a line for each tenth."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

TENTHS = 10

Tell = Callable[[float, str], None]
"""Takes how much of the whole is done, and what is being done."""


@contextmanager
def progress(name: str, total: float) -> Iterator[Tell]:
    """Yields what is to be told, from time to time, how much of `total` is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name, total)
        return
    doing = TextColumn("{task.description}")
    columns = (name, BarColumn(), TaskProgressColumn(), doing, TimeElapsedColumn(), "ends in", TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, doing: bar.update(task, completed=done, description=doing)


def _lines(name: str, total: float) -> Tell:
    told = -1

    def tell(done: float, doing: str) -> None:
        nonlocal told
        if (tenth := int(TENTHS * done / total)) > told:
            told = tenth
            print(f"{name}: {done / total:.0%}, {doing}", file=sys.stderr, flush=True)

    return tell
