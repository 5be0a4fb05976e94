"""What `alphatier evaluate` does with its options, and how it prints what it found."""

import json
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from alphatier_models import Evaluation, Family, SamplingSettings, load_family
from alphatier_models.files import family_file
from alphatier_training.evaluation.figures import spread
from alphatier_training.evaluation.measuring import (
    Settings,
    default_sampling,
    figures_of,
    plans,
    take_samples,
    write_figures,
)
from alphatier_training.evaluation.samples import SampleFile
from alphatier_training.run.display import Display
from alphatier_training.run.reporting import Report


@dataclass(frozen=True)
class Measured:
    """The figures of some tiers, and where their samples are."""

    family: Family
    folder: Path
    files: dict[str, Path]
    figures: dict[str, Evaluation]

    def write(self) -> None:
        """Put the figures into family.json."""
        write_figures(self.folder, self.figures)


def measure(
    path: Path,
    console: Console,
    *,
    tiers: tuple[str, ...],
    problems: int,
    samples: int,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int | None,
    seed: int | None,
    endpoint: str | None,
    device: str,
    out: Path | None,
    fresh: bool,
) -> Measured:
    """Take the samples that are missing and compute the figures."""
    family = load_family(path)
    folder = family_file(path).parent
    given = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    sampling = SamplingSettings(**default_sampling(family).model_dump() | chosen)
    settings = Settings(tiers, problems, samples, sampling, endpoint, device)
    out = out or Path("runs") / "evaluate" / family.name
    wanted = plans(family, settings)
    if fresh:
        for plan in wanted:
            SampleFile(plan, out).path.unlink(missing_ok=True)
    with Display([f"samples-{plan.tier}" for plan in wanted], console) as display:
        for plan in wanted:
            take_samples(family, folder, plan, settings, out, display)
            display(Report(f"samples-{plan.tier}", plan.total(), plan.total(), "responses", finished=True))
    files = {plan.tier: SampleFile(plan, out).path for plan in wanted}
    return Measured(family, folder, files, figures_of(wanted, out))


def show(measured: Measured, *, as_json: bool) -> None:
    """Print a table, or JSON with each tier's figures and its file of samples."""
    if as_json:
        tiers = {
            tier: {"samples": str(measured.files[tier]), **figures.model_dump(mode="json")}
            for tier, figures in measured.figures.items()
        }
        click.echo(json.dumps({"family": measured.family.name, "tiers": tiers}, indent=2))
        return
    Console().print(_table(measured))
    click.echo(f"Samples: {', '.join(str(file) for file in measured.files.values())}")


def _table(measured: Measured) -> Table:
    one = next(iter(measured.figures.values()))
    caption = f"{one.dataset}, {one.problems} problems, temperature {one.sampling.temperature}, 95 % intervals"
    table = Table(title=f"Family {measured.family.name}", caption=caption)
    table.add_column("tier", no_wrap=True)
    for heading in ("accuracy %", "tokens", "p50 / p90 / p99", "truncated %", "accuracy % by level"):
        table.add_column(heading, justify="right")
    for tier, figures in measured.figures.items():
        points = figures.token_percentiles
        table.add_row(
            tier,
            spread(figures.accuracy, 100),
            spread(figures.tokens),
            f"{points.p50:.0f} / {points.p90:.0f} / {points.p99:.0f}",
            f"{100 * figures.truncation_rate:.1f}",
            " ".join(f"{100 * level.accuracy.mean:.0f}" for level in figures.levels),
        )
    return table
