"""The command `alphatier evaluate`: options and their help. Importing this module loads neither torch nor scipy."""

import re
from pathlib import Path
from typing import Any, get_args

import click

from alphatier_training.errors import told
from alphatier_training.recipe import ENGINE_PATTERN
from alphatier_training.recipe.problems import Format

_positive = click.IntRange(min=1)


def _engine(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(ENGINE_PATTERN, value):
        raise click.BadParameter(
            f"{value!r} is none of auto, vllm, transformers and no URL such as http://host:8000/v1"
        )
    return value


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    metavar="[NAME=]PLACE",
    help="A JSONL file, a folder, hub:ID[:CONFIG[:SPLIT]], or `arithmetic`; may be repeated. [as before]",
)
@click.option(
    "--format",
    type=click.Choice(get_args(Format)),
    default="auto",
    show_default=True,
    help="Of --data: which fields hold question and answer.",
)
@click.option("--prompt", help="The user's message, {question} in it. [as before, else the paper's]")
@click.option("--system", default="", help="A system message. [none]")
@click.option("--problems", "--limit", type=_positive, help="The first ones of each data set. [arithmetic: 1000]")
@click.option("--samples", multiple=True, metavar="[NAME=]N", help="Responses a problem, of one data set or all. [1]")
@click.option("--temperature", type=click.FloatRange(min=0), help="[as measured before, else 0.6]")
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), help="[as measured before, else 0.95]")
@click.option("--max-tokens", type=_positive, help="A longer response is wrong. [as before, else 256, --data 32768]")
@click.option("--seed", type=int, help="Of the problems and of the sampling. [as measured before, else 7]")
@click.option("--tier", "tiers", multiple=True, metavar="NAME", help="Measure only this tier; may be repeated. [all]")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="NAME",
    help="A row more: cutoff-N, concise, draft, tokens-N (…:TIER), or an adapter's folder; may be repeated.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=_positive,
    metavar="N",
    help="Accuracy where a response longer than N tokens is wrong; may be repeated.",
)
@click.option(
    "--frontier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Published accuracies by budget and data set (see `alphatier report --help`), for REG.",
)
@click.option(
    "--compare",
    nargs=2,
    multiple=True,
    metavar="A B",
    help="Paired tests of two rows; may be repeated. [each with the reference tier]",
)
@click.option(
    "--engine",
    "--endpoint",
    "kind",
    callback=_engine,
    default="auto",
    metavar="ENGINE",
    help="auto, vllm (started for it), transformers (this process), or the URL (…/v1) of a server that runs. [auto]",
)
@click.option(
    "--engine-arg",
    "arguments",
    multiple=True,
    metavar="ARG",
    help="More of `vllm serve`'s, e.g. --engine-arg=--max-model-len=16384.",
)
@click.option(
    "--endpoint-model",
    "model",
    default="{family}:{tier}",
    show_default=True,
    help="What a server at a URL calls the model of a tier.",
)
@click.option(
    "--concurrency",
    type=_positive,
    help="Responses that an engine works on at once. [vLLM 256, on a CPU 64; a URL 16]",
)
@click.option(
    "--timeout",
    "silence",
    type=click.FloatRange(min=0, min_open=True),
    default=120,
    show_default=True,
    help="Seconds that a server at a URL may be silent; a response may take longer.",
)
@click.option("--retries", type=click.IntRange(min=0), default=4, show_default=True, help="Of a request that failed.")
@click.option(
    "--device", type=click.Choice(["cpu", "auto"]), default="auto", show_default=True, help="auto: GPUs, if any."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="For the samples. [runs/evaluate/<name>]"
)
@click.option("--fresh", is_flag=True, help="Take every sample again, even those that --out holds already.")
@click.option("--write", is_flag=True, help="Put the figures of the tiers into family.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def evaluate(family: Path, as_json: bool, write: bool, **options: Any) -> None:
    """Measure the tiers of FAMILY: accuracy and tokens with 95 % intervals, and paired tests.

    \b
    Every response is kept as a JSON line; the same command goes on from there after a stop.
    --engine auto starts vLLM where it is installed and the weights are above 100 MB: one a GPU, with all adapters.
    The key for a URL is the environment's OPENAI_API_KEY.

    \b
    Examples:
      alphatier evaluate models/tiny --tier alpha-0.4 --problems 200
      alphatier evaluate models/tiny --budget 32 --budget 64 --baseline cutoff-32
      alphatier evaluate FAMILY --data gsm8k=test.jsonl --data hub:HuggingFaceH4/MATH-500 --samples math-500=3
      alphatier evaluate FAMILY --data gsm8k=test.jsonl --engine http://127.0.0.1:8000/v1
    """
    from rich.console import Console

    from alphatier_training.evaluation import command

    console = Console(stderr=True)
    with told():
        found = _measured(family, console, **options)
    if write:
        command.write(family, found)
    command.show(found, as_json=as_json)


def _measured(family: Path, console: Any, **options: Any) -> Any:
    from alphatier_training.evaluation.command import measure
    from alphatier_training.evaluation.engine import Engine
    from alphatier_training.evaluation.tasks import Asked

    def taken(*names: str) -> dict[str, Any]:
        return {name: options.pop(name) for name in names}

    asked = Asked(**taken("data", "format", "prompt", "system", "problems", "samples"))
    sampling = taken("temperature", "top_p", "max_tokens", "seed")
    engine = Engine(**taken("kind", "concurrency", "arguments", "device", "model", "silence", "retries"))
    return measure(family, console, asked, sampling, engine, **options)
