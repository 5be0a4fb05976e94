"""The command `alphatier evaluate`: options and their help. Importing this module loads neither torch nor scipy."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import click

from alphatier_training.errors import told
from alphatier_training.recipe import ENGINE_PATTERN
from alphatier_training.recipe.problems import Format

_positive = click.IntRange(min=1)
_above_0 = click.FloatRange(min=0, min_open=True)
_share = click.FloatRange(min=0, max=1, min_open=True)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)

_DATA = "A JSONL file, a folder, hub:ID[:CONFIG[:SPLIT]], or `arithmetic`; may be repeated. [as before]"
_FORMAT = "Of --data: which fields hold question and answer. [auto]"
_BASELINE = "A row more: cutoff-N, concise, draft, tokens-N (…:TIER), or an adapter's folder; may be repeated."
_BUDGET = "Accuracy where a response longer than N tokens is wrong; may be repeated."
_FRONTIER = "Published accuracies by budget and data set (see `alphatier report --help`), for REG."
_COMPARE = "Paired tests of two rows; may be repeated. [each with the reference tier]"
_ENGINE = "auto, vllm (started for it), transformers (this process), or the URL (…/v1) of a server that runs. [auto]"
_ARGUMENT = "More of `vllm serve`'s, e.g. --engine-arg=--max-model-len=16384."
_MODEL = "What a server at a URL calls the model of a tier. [{family}:{tier}]"
_TIMEOUT = "Seconds that a server at a URL may be silent; a response may take longer. [120]"


def _engine(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(ENGINE_PATTERN, value):
        raise click.BadParameter(
            f"{value!r} is none of auto, vllm, transformers and no URL such as http://host:8000/v1"
        )
    return value


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option("--data", multiple=True, metavar="[NAME=]PLACE", help=_DATA)
@click.option("--format", type=click.Choice(get_args(Format)), default="auto", help=_FORMAT)
@click.option("--prompt", help="The user's message, {question} in it. [as before, else the paper's]")
@click.option("--system", default="", help="A system message. [none]")
@click.option("--problems", "--limit", type=_positive, help="The first ones of each data set. [arithmetic: 1000]")
@click.option("--samples", multiple=True, metavar="[NAME=]N", help="Responses a problem, of one data set or all. [1]")
@click.option("--temperature", type=click.FloatRange(min=0), help="[as measured before, else 0.6]")
@click.option("--top-p", type=_share, help="[as measured before, else 0.95]")
@click.option("--max-tokens", type=_positive, help="A longer response is wrong. [as before, else 256, --data 32768]")
@click.option("--seed", type=int, help="Of the problems and of the sampling. [as measured before, else 7]")
@click.option("--tier", "tiers", multiple=True, metavar="NAME", help="Measure only this tier; may be repeated. [all]")
@click.option("--baseline", "baselines", multiple=True, metavar="NAME", help=_BASELINE)
@click.option("--budget", "budgets", multiple=True, type=_positive, metavar="N", help=_BUDGET)
@click.option("--frontier", type=_file, metavar="FILE", help=_FRONTIER)
@click.option("--compare", nargs=2, multiple=True, metavar="A B", help=_COMPARE)
@click.option("--engine", "--endpoint", "kind", callback=_engine, default="auto", metavar="ENGINE", help=_ENGINE)
@click.option("--engine-arg", "arguments", multiple=True, metavar="ARG", help=_ARGUMENT)
@click.option("--endpoint-model", "model", default="{family}:{tier}", help=_MODEL)
@click.option("--concurrency", type=_positive, help="Responses in flight at once. [vLLM 256, on a CPU 64; a URL 16]")
@click.option("--timeout", "silence", type=_above_0, default=120, help=_TIMEOUT)
@click.option("--retries", type=click.IntRange(min=0), default=4, help="Of a request that failed. [4]")
@click.option("--device", type=click.Choice(["cpu", "auto"]), default="auto", help="auto: GPUs, if any. [auto]")
@click.option("--out", type=_folder, help="For the samples. [runs/evaluate/<name>]")
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

    from alphatier_training.evaluation import measuring
    from alphatier_training.evaluation.engine import Engine
    from alphatier_training.evaluation.tables import document, tables
    from alphatier_training.evaluation.tasks import Asked

    def taken(*names: str) -> dict[str, Any]:
        return {name: options.pop(name) for name in names}

    with told():
        asked = Asked(**taken("data", "format", "prompt", "system", "problems", "samples"))
        sampling = taken("temperature", "top_p", "max_tokens", "seed")
        engine = Engine(**taken("kind", "concurrency", "arguments", "device", "model", "silence", "retries"))
        found = measuring.measure(family, Console(stderr=True), asked, sampling, engine, **options)
        if write:
            measuring.write(family, found)
    if as_json:
        click.echo(json.dumps(document(found), indent=2))
        return
    shown, wide = [table.rich() for table in tables(found)], Console(width=1000)
    console = Console(width=max(Console().width, *(wide.measure(table).maximum for table in shown)))
    for table in shown:
        console.print(table)
    files = dict.fromkeys(str(line.file) for lines in found.datasets.values() for line in lines.values())
    click.echo(f"Samples: {', '.join(files)}")
