"""The command `alphatier baseline`. Importing this module loads neither torch nor trl."""

from pathlib import Path
from typing import Any, get_args

import click

from alphatier_training.errors import told
from alphatier_training.recipe.problems import Format

_positive = click.IntRange(min=1)


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.argument("method", type=click.Choice(["shortest-sft"]))
@click.option(
    "--data",
    metavar="[NAME=]PLACE",
    help="Training problems: a JSONL file, a folder, or hub:ID[:CONFIG[:SPLIT]]. [the built-in ones]",
)
@click.option(
    "--format",
    type=click.Choice(get_args(Format)),
    default="auto",
    show_default=True,
    help="Of --data: which fields hold question and answer.",
)
@click.option("--prompt", help="The user's message, {question} in it. [as the family was measured]")
@click.option("--problems", type=_positive, default=1600, show_default=True, help="Training problems.")
@click.option("--samples", type=_positive, default=8, show_default=True, help="Responses of the base a problem.")
@click.option("--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of the responses.")
@click.option("--max-tokens", type=_positive, help="A longer response is wrong. [as measured before]")
@click.option("--seed", type=int, default=42, show_default=True, help="Of problems, sampling and training.")
@click.option("--epochs", type=_positive, default=2, show_default=True, help="Passes over the kept responses.")
@click.option("--batch-size", type=_positive, default=32, show_default=True, help="Responses a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="AdamW's, of the adapter.",
)
@click.option("--rank", type=_positive, default=16, show_default=True, help="Of the LoRA adapter.")
@click.option("--device", type=click.Choice(["cpu", "auto"]), default="cpu", help="auto takes a GPU. [cpu]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[runs/baselines/<name>]")
def baseline(family: Path, method: str, out: Path | None, **options: Any) -> None:
    """Make the baseline METHOD over FAMILY's base, for `alphatier evaluate --baseline`.

    \b
    shortest-sft   the base, fine-tuned on the shortest of its own correct responses to each problem
    Stop it with Ctrl-C: the same command goes on from there.

    Example: alphatier baseline models/tiny shortest-sft
    """
    from rich.console import Console

    from alphatier_models import load_family

    console = Console(stderr=True)
    with told():
        loaded = load_family(family)
        target = _make(loaded, family, out or Path("runs") / "baselines" / loaded.name, console, **options)
    click.echo(f"The adapter is in {target}.\n  alphatier evaluate {family} --baseline {target}")


def _make(family: Any, path: Path, out: Path, console: Any, **options: Any) -> Path:
    from alphatier_models.files import family_file
    from alphatier_training.baselines.shortest_sft import SAMPLING, TUNING, Settings, make
    from alphatier_training.evaluation.tasks import sampling_of, training_task
    from alphatier_training.run.reporting import Display

    data, device = options.pop("data"), options.pop("device")
    given = {"temperature": options.pop("temperature"), "top_p": 1.0, "seed": options.pop("seed")}
    sampling = sampling_of(family, [data] if data else [], given | {"max_tokens": options.pop("max_tokens")})
    asked = {name: options.pop(name) for name in ("prompt", "problems", "samples")} | {"form": options.pop("format")}
    task = training_task(family, data, seed=sampling.seed, **asked)
    with Display([SAMPLING, TUNING], console) as display:
        return make(family, family_file(path).parent, task, Settings(sampling, **options), out, device, display)
