"""`alphatier router train` from its options to the file: learn, measure, write, with progress."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from alphatier_models import Family, FamilyError, RouterFile, text_sha256
from alphatier_models.files import change_family, replace_file
from alphatier_models.routing.router import ROUTER_FILE, Router, RouterError, router_text
from alphatier_training.errors import TrainingError
from alphatier_training.routing.fitting import Tuning
from alphatier_training.routing.knowing import Known, read_known
from alphatier_training.routing.making import make, steps
from alphatier_training.routing.measuring import Quality, measure
from alphatier_training.routing.showing import table_of

LEARNT_SHARE = 0.8
"""Of the problems, that each measured seed learns from."""

FEWEST_PROBLEMS = 50


@dataclass(frozen=True)
class Order:
    """What is to be learnt from, and what measured on."""

    samples: Sequence[Path]
    test: Sequence[tuple[str, Path]]
    seeds: int
    tiers: Sequence[str]


def train_router(
    family: Family, folder: Path, order: Order, tuning: Mapping[str, int], console: Console
) -> tuple[dict[str, Any], list[Table]]:
    """Write router.json into `folder`. Returns what `--json` prints, and tables.

    Raises TrainingError or FamilyError.
    """
    torch.set_num_threads(1)
    known = read_known(family, order.samples, order.tiers)
    if len(known) < FEWEST_PROBLEMS:
        raise TrainingError(
            f"A router learns from {FEWEST_PROBLEMS} problems or more; these samples have {len(known)}."
        )
    tests = {name: read_known(family, [place], known.tiers) for name, place in order.test}
    plan = Tuning(**tuning)
    seeds = order.seeds if tests else 0
    with _progress(console, (1 + seeds) * steps(plan)) as told:
        router = make(family, known, plan, told(0))
        measured: dict[str, list[Quality]] = {name: [] for name in tests}
        for seed in range(seeds):
            part = _part(known, seed)
            one = make(family, part, replace(plan, seed=seed), told((1 + seed) * steps(plan)))
            for name, test in tests.items():
                measured[name].append(measure(one, test))
    return _write(router, family, folder, known, measured)


def _part(known: Known, seed: int) -> Known:
    drawn = np.random.default_rng(seed).permutation(len(known))
    return known.take(np.sort(drawn[: int(LEARNT_SHARE * len(known))]))


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    """A function that makes what hears of steps, from an offset on."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("router", total=total)
        yield lambda offset: lambda done: progress.update(task, completed=offset + done)


def _write(
    router: Router, family: Family, folder: Path, known: Known, measured: Mapping[str, Sequence[Quality]]
) -> tuple[dict[str, Any], list[Table]]:
    provenance = {"problems": len(known), "samples_per_problem": known.right.shape[2], "tiers": list(known.tiers)}
    figures = {name: [_short(one) for one in own] for name, own in measured.items()}
    router = router.model_copy(update={"provenance": provenance, "figures": figures})
    try:
        text = router_text(router)
    except RouterError as error:
        raise TrainingError(f"{error} Give --width a smaller number.") from error
    file = folder / ROUTER_FILE
    named = RouterFile(path=ROUTER_FILE, sha256=text_sha256(text))
    replace_file(file, text, 0o644)
    try:
        change_family(folder, lambda own: own.model_copy(update={"router": named}))
    except FamilyError as error:
        raise TrainingError(str(error)) from error
    document = {
        "family": family.name,
        "file": str(file),
        "bytes": len(text.encode()),
        **provenance,
        "tests": {name: [one.document() for one in own] for name, own in measured.items()},
    }
    return document, [table_of(name, own) for name, own in measured.items() if own]


def _short(quality: Quality) -> dict[str, Any]:
    return {name: value for name, value in quality.document().items() if name != "curve"}
