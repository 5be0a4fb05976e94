"""Measure blends of a family's outermost tiers and compare them with the tiers that were trained.

What: for each family (one RL seed each) three curves: the tersest tier's adapter scaled, the two outermost alphas
mixed, the two largest mixed. Every point is measured by `alphatier evaluate`; the outcome is a table and a picture.
What not: no statistics (`curve`), no drawing (`picture`), no change to the families: they are copied.

    python -m alphatier_training.blending.study models/tiny runs/seed43 runs/seed44 --out runs/blends
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter
from rich.console import Console

from alphatier_models import Family, FamilyError, load_family
from alphatier_models.blending.making import add_blend, copied_family
from alphatier_models.blending.parts import Blend, between
from alphatier_models.files import family_file
from alphatier_training.blending.curve import Responses, Result, Study, responses_of, table
from alphatier_training.errors import TrainingError
from alphatier_training.run.display import Display
from alphatier_training.run.folder import write_text
from alphatier_training.run.reporting import Report

EIGHTHS = tuple(eighth / 8 for eighth in range(1, 8))
BEYOND = (1.125, 1.25)
QUARTERS = (0.25, 0.5, 0.75)
TOGETHER = 5
"""Tiers that one process measures: starting it takes as long as measuring one of them."""


@dataclass(frozen=True)
class Line:
    """A curve of blends from one tier to another; at share 0 and 1 it has these tiers themselves."""

    title: str
    prefix: str
    first: str
    second: str
    shares: tuple[float, ...]
    """Of the blends."""

    def tiers(self) -> dict[float, str]:
        """The name of the tier at each share, the ends included."""
        names = {0.0: self.first, 1.0: self.second} | {share: f"{self.prefix}-{share:g}" for share in self.shares}
        return dict(sorted(names.items()))

    def blends(self, family: Family) -> list[Blend]:
        """The tiers that nobody trained."""
        names = self.tiers()
        return [between(family, self.first, self.second, share, names[share]) for share in self.shares]


@dataclass(frozen=True)
class Job:
    """One tier to measure."""

    copy: Path
    tier: str
    sha256: str | None
    problems: int
    samples: int

    def marker(self, out: Path) -> Path:
        """Names the file of samples once it is whole; another job never meets it."""
        weights = (self.sha256 or "base")[:12]
        return out / "measured" / self.copy.name / f"{self.tier}-{weights}-{self.problems}x{self.samples}.json"


@click.command()
@click.argument("families", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="For everything made.")
@click.option("--problems", type=click.IntRange(min=1), default=1000, show_default=True, help="Held-out problems.")
@click.option("--samples", type=click.IntRange(min=1), default=4, show_default=True, help="Responses a problem.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes at once.")
def main(families: tuple[Path, ...], out: Path, problems: int, samples: int, jobs: int) -> None:
    """Measure blends of FAMILIES, one a seed: `blends.png`, `blends.md`, `blends.json` and all samples in OUT.

    Stop it with Ctrl-C: the same command goes on where it was.
    """
    console = Console(stderr=True)
    try:
        result = _study([prepared(path, out) for path in families], out, problems, samples, jobs, console)
    except (TrainingError, FamilyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped; what was measured is kept. Go on with the same command.")
        sys.exit(130)
    _write(result, out)
    click.echo(f"{out / 'blends.md'}, {out / 'blends.json'} and {out / 'blends.png'} are written.")


def prepared(path: Path, out: Path) -> Path:
    """A copy of the family with its blends; what is there already is kept.

    Raises:
        TrainingError: the family cannot be studied, or the copy is of other weights.
    """
    family, folder = load_family(path), family_file(path).parent
    copy = out / "families" / f"{family.name}-{_seed(family)}"
    if not copy.exists():
        with copied_family(folder, copy):
            pass
    there = load_family(copy)
    if there.tiers[: len(family.tiers)] != family.tiers:
        raise TrainingError(f"{copy} is no copy of {path} as it is now. Give another --out, or delete that folder.")
    names = {tier.name for tier in there.tiers}
    for blend in (blend for line in lines(family) for blend in line.blends(family)):
        if blend.name not in names:
            add_blend(copy, blend, None, lambda done, total: None)
    return copy


def lines(family: Family) -> tuple[Line, ...]:
    """The curves to measure.

    Raises:
        TrainingError: three adapters with an alpha are needed.
    """
    base = next((tier.name for tier in family.tiers if tier.layout == "base"), None)
    trained = sorted((tier for tier in family.tiers if tier.alpha is not None), key=lambda tier: tier.alpha or 0)
    if base is None or len(trained) < 3 or any(tier.layout != "adapter" for tier in trained):
        raise TrainingError(f"{family.name} has no base and three adapters with an alpha. Study a family that does.")
    careful, (next_to, terse) = trained[0].name, (tier.name for tier in trained[-2:])
    return (
        Line(f"{base} to {terse}", "scale", base, terse, (*EIGHTHS, *BEYOND)),
        Line(f"{careful} to {terse}", "mix", careful, terse, EIGHTHS),
        Line(f"{next_to} to {terse}", "near", next_to, terse, QUARTERS),
    )


def _seed(family: Family) -> int | None:
    """The seed of the RL runs."""
    return next((tier.seed for tier in family.tiers if tier.alpha is not None), None)


def _study(copies: Sequence[Path], out: Path, problems: int, samples: int, jobs: int, console: Console) -> Result:
    if len(set(copies)) < len(copies):
        raise TrainingError("Two families have the same name and seed, so they would share a folder. Give each once.")
    families = {copy.name: load_family(copy) for copy in copies}
    work = [
        Job(copy, tier.name, tier.sha256, problems, samples) for copy in copies for tier in families[copy.name].tiers
    ]
    with Display(list(families), console) as display:
        measured = _measure_all(work, out, jobs, display)
    family = families[copies[0].name]
    runs = {name: {job.tier: measured[job] for job in work if job.copy.name == name} for name in families}
    study = Study([tier.name for tier in family.tiers if tier.blend is None], runs)
    curves = lines(family)
    return study.result(curves[0].first, {line.title: line.tiers() for line in curves})


def _measure_all(work: Sequence[Job], out: Path, jobs: int, display: Display) -> dict[Job, Responses]:
    totals = Counter(job.copy.name for job in work)
    found: dict[Job, Responses] = {}
    running: set[subprocess.Popen[str]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_measure, batch, out, running) for batch in _batches(work)]
        try:
            for future in as_completed(futures):
                found |= future.result()
                for name in {job.copy.name for job in future.result()}:
                    done = sum(job.copy.name == name for job in found)
                    display(Report(name, done, totals[name], "tiers", finished=done == totals[name]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return found


def _batches(work: Sequence[Job]) -> Iterator[list[Job]]:
    """A few tiers of one family each."""
    for copy in dict.fromkeys(job.copy for job in work):
        mine = [job for job in work if job.copy == copy]
        yield from (mine[start : start + TOGETHER] for start in range(0, len(mine), TOGETHER))


def _measure(batch: Sequence[Job], out: Path, running: set[subprocess.Popen[str]]) -> dict[Job, Responses]:
    missing = [job for job in batch if not job.marker(out).is_file()]
    if missing:
        printed = json.loads(_run(_command(missing, out), running))
        for job in missing:
            write_text(job.marker(out), json.dumps({"samples": _samples(printed, job.tier)}) + "\n")
    files = {job: json.loads(job.marker(out).read_text(encoding="utf-8"))["samples"] for job in batch}
    return {job: responses_of(Path(file)) for job, file in files.items()}


def _command(jobs: Sequence[Job], out: Path) -> list[str]:
    """`alphatier evaluate`, as a person would call it."""
    one = jobs[0]
    counts = ["--problems", str(one.problems), "--samples", str(one.samples)]
    tiers = [option for job in jobs for option in ("--tier", job.tier)]
    evaluate = [sys.executable, "-m", "alphatier_models.cli", "evaluate", str(one.copy), *tiers]
    return [*evaluate, *counts, "--out", str(out / "samples" / one.copy.name), "--json"]


def _run(command: Sequence[str], running: set[subprocess.Popen[str]]) -> str:
    """What the command printed; it is in `running` as long as it runs."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        running.add(process)
        printed, errors = process.communicate()
        running.discard(process)
    if process.returncode != 0:
        raise TrainingError(f"`{' '.join(command)}` failed:\n{errors.strip()[-2000:]}")
    return printed


def _samples(printed: dict[str, Any], tier: str) -> str:
    """The file of samples, in what `alphatier evaluate --json` printed."""
    [dataset] = printed["datasets"].values()
    return str(dataset["rows"][tier]["samples"])


def _write(result: Result, out: Path) -> None:
    from alphatier_training.blending.picture import draw

    document = TypeAdapter(Result).dump_python(result, mode="json")
    write_text(out / "blends.json", json.dumps(document, indent=2) + "\n")
    write_text(out / "blends.md", table(result))
    draw(result, out / "blends.png")


if __name__ == "__main__":
    main()
