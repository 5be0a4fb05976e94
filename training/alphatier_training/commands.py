"""`alphatier report`, `choose`, `sweep` and `baseline`. Importing this module loads neither torch nor matplotlib."""

import json
from pathlib import Path
from typing import Any, get_args

import click

from alphatier_training.errors import told
from alphatier_training.recipe.problems import Format

_family = click.Path(path_type=Path)
_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)
_count = click.IntRange(min=1)
_some = click.FloatRange(min=0, min_open=True)

_samples = click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of samples to read as well, e.g. runs/evaluate/NAME; may be repeated. [FAMILY/work/samples]",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@click.command()
@click.argument("family", type=_family)
@_samples
@click.option(
    "--frontier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Published accuracies by budget and data set, for REG.",
)
@click.option("--out", type=_folder, help="For the report. [FAMILY/report]")
def report(family: Path, samples: tuple[Path, ...], frontier: Path | None, out: Path | None) -> None:
    """Write the report of FAMILY: one HTML page, the same as Markdown, and its pictures.

    \b
    Figures come from family.json; histograms and paired tests need the samples
    that they were computed from, training curves FAMILY/work/curves.
    Frontiers of R1-Distill 1.5B and 7B and of Qwen3 4B and 8B on AIME 2024 and
    2025, AMC 2023 and Minerva are in data/frontiers of
    https://github.com/samjia2000/Optimal-Reasoning-Efficiency.

    \b
    Examples:
      alphatier report runs/tiny
      alphatier report runs/r1 --frontier deepseek_r1_distill_qwen_1.5b.json
    """
    from alphatier_models import load_family
    from alphatier_models.files import family_file
    from alphatier_training.report.evidence import gather
    from alphatier_training.report.writing import write_evidence

    folder = family_file(family).parent
    out = out or folder / "report"
    with told(out):
        evidence = gather(load_family(family, checksums=False), folder, samples=samples, frontier=frontier)
        try:
            write_evidence(evidence, out)
        except OSError as error:
            raise click.ClickException(f"{out} cannot be written: {error.strerror}. Give another --out.") from error
    click.echo(f"The report is in {out / 'report.html'}.")


@click.command()
@click.argument("families", nargs=-1, required=True, type=_family, metavar="FAMILY...")
@click.option(
    "--accuracy-floor",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Keep tiers whose accuracy is shown to be at least this, e.g. 0.95.",
)
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Keep tiers shown to be at most so many points less accurate than --against, e.g. 1.0.",
)
@click.option("--against", metavar="TIER", help="The tier to compare with. [the most accurate]")
@click.option(
    "--target-share",
    "target_shares",
    type=_some,
    multiple=True,
    metavar="SHARE",
    help="Keep the tier nearest to, at most, this share of the reference's tokens; may be repeated.",
)
@click.option("--tiers", type=_count, metavar="N", help="Keep N tiers at most, spread in log tokens.")
@click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="Judge on this one only; may be repeated.")
@_samples
@click.option("--write", is_flag=True, help="Write tiers, efforts and default into family.json.")
@click.option("--out", type=_folder, help="Write the chosen tiers, copied, into this new folder.")
@_json
def choose(
    families: tuple[Path, ...], samples: tuple[Path, ...], write: bool, out: Path | None, as_json: bool, **wish: Any
) -> None:
    """Propose which tiers of FAMILY to offer, with the evidence.

    \b
    Tiers that are not shown to be accurate enough, and those that another tier
    beats on both counts, are left out. Several families over the same base, with
    different alphas, are taken as one (--out writes them as one).

    \b
    Without --write and --out nothing is changed. --write leaves every tier's folder
    where it is and keeps the whole sweep in family.sweep.json.

    Example: alphatier choose runs/tiny --within 1.0 --tiers 3
    """
    if write and (out is not None or len(families) > 1):
        raise click.UsageError("--write is for one family; use --out to write the chosen tiers of several.")
    from rich.console import Console

    from alphatier_training.report.choosing import Wish
    from alphatier_training.report.choosing import choose as propose
    from alphatier_training.report.joining import join, write_choice, write_copies

    with told():
        joined = join(families, samples)
        proposal = propose(joined.evidence, Wish(**wish))
        written = "Nothing is written; --write puts this into family.json."
        if write:
            written = write_choice(joined, proposal)
        if out is not None:
            written = write_copies(joined, proposal, out)
    if as_json:
        click.echo(json.dumps(proposal.as_document(), indent=2))
        return
    for table in proposal.tables(joined.evidence.family.name):
        Console().print(table.rich())
    click.echo("\n".join([*proposal.lines(), written]))


@click.command()
@click.argument("recipe", type=_file)
@click.argument("variants", type=_file)
@click.option("--out", type=_folder, help="The sweep's folder. [runs/sweep-<name>]")
@click.option("--base", type=_folder, help="A family to take the base from.")
@click.option(
    "--curve",
    metavar="VARIANT",
    multiple=True,
    help="Hold the others against this one; may be repeated. [those that change only alphas]",
)
@click.option("--jobs", type=_count, help="Processes at once. [as for train]")
@_json
def sweep(
    recipe: Path,
    variants: Path,
    out: Path | None,
    base: Path | None,
    curve: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
) -> None:
    """Train variants of RECIPE over its base, each with several seeds, and compare them.

    \b
    VARIANTS is a YAML file: alphas, seeds, and changes of the recipe's `rl` section by name. Every run is an
    ordinary one, so the same command goes on after a stop. The alphas of the variants that change nothing else
    make a curve of accuracy against tokens; each other variant is tested against it at its own number of tokens,
    by seed and problem.

    Example: alphatier sweep training/recipes/tiny-tiers.yaml training/recipes/sweeps/methods.yaml
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe
    from alphatier_training.run.preflight import check
    from alphatier_training.run.scheduling import this_machine
    from alphatier_training.sweep import load_sweep, run_sweep, runs
    from alphatier_training.train import line_of
    from alphatier_training.variants import compare

    with told():
        plan, asked = load_recipe(recipe), load_sweep(variants)
        todo, against = list(runs(plan, asked)), asked.curve(curve)
        out = out or Path("runs") / f"sweep-{plan.name}"
        machine = this_machine(plan.compute.device, jobs=jobs)
        check(plan, out, machine, [stage.name for stage in line_of(plan)])
        run_sweep(plan, todo, out, machine, Console(stderr=True), base=base)
        text, document = compare(todo, out, against)
    click.echo(document if as_json else text)


@click.command()
@click.argument("family", type=_family)
@click.argument("method", type=click.Choice(["shortest-sft"]))
@click.option(
    "--data",
    metavar="[NAME=]PLACE",
    help="Training problems: a JSONL file, a folder, or hub:ID[:CONFIG[:SPLIT]]. [the built-in ones]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    default="auto",
    show_default=True,
    help="Of --data: which fields hold question and answer.",
)
@click.option("--prompt", help="The user's message, {question} in it. [as the family was measured]")
@click.option("--problems", type=_count, default=1600, show_default=True, help="Training problems.")
@click.option("--samples", type=_count, default=8, show_default=True, help="Responses of the base a problem.")
@click.option("--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of the responses.")
@click.option("--max-tokens", type=_count, help="A longer response is wrong. [as measured before]")
@click.option("--seed", type=int, default=42, show_default=True, help="Of problems, sampling and training.")
@click.option("--epochs", type=_count, default=2, show_default=True, help="Passes over the kept responses.")
@click.option("--batch-size", type=_count, default=32, show_default=True, help="Responses a step.")
@click.option("--learning-rate", type=_some, default=1e-3, show_default=True, help="AdamW's, of the adapter.")
@click.option("--rank", type=_count, default=16, show_default=True, help="Of the LoRA adapter.")
@click.option("--device", type=click.Choice(["cpu", "auto"]), default="cpu", help="auto takes a GPU. [cpu]")
@click.option("--out", type=_folder, help="[runs/baselines/<name>]")
def baseline(family: Path, method: str, data: str | None, device: str, out: Path | None, **options: Any) -> None:
    """Make the baseline METHOD over FAMILY's base, for `alphatier evaluate --baseline`.

    \b
    shortest-sft   the base, fine-tuned on the shortest of its own correct responses to each problem
    Stop it with Ctrl-C: the same command goes on from there.

    Example: alphatier baseline models/tiny shortest-sft
    """
    from rich.console import Console

    from alphatier_models import load_family
    from alphatier_models.files import family_file

    with told():
        loaded = load_family(family)
        from alphatier_training.evaluation.tasks import sampling_of, training_task
        from alphatier_training.run.reporting import Display
        from alphatier_training.shortest_sft import SAMPLING, TUNING, Settings, make

        given = {name: options.pop(name) for name in ("temperature", "max_tokens", "seed")}
        sampling = sampling_of(loaded, [data] if data else [], given | {"top_p": 1.0})
        asked = {name: options.pop(name) for name in ("form", "prompt", "problems", "samples")}
        task = training_task(loaded, data, seed=sampling.seed, **asked)
        target = out or Path("runs") / "baselines" / loaded.name
        with Display([SAMPLING, TUNING], Console(stderr=True)) as display:
            settings = Settings(sampling, **options)
            adapter = make(loaded, family_file(family).parent, task, settings, target, device, display)
    click.echo(f"The adapter is in {adapter}.\n  alphatier evaluate {family} --baseline {adapter}")
