"""The demo: a real engine, a real gateway, the same questions at every tier, and what it all cost.

    python -m alphatier_server.demo        (what `make demo` runs)

Starts `alphatier serve` on a free port, asks through the official OpenAI SDK, reads /metrics, stops
everything. It fails when the engine does not come up, when a question gets no answer, or when the
counters disagree with the usage that the client saw. It measures nothing: `alphatier evaluate` does.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from alphatier_server.ask import Asker, AskError
from alphatier_server.demo.counters import check_counters, metrics_table, read_metrics
from alphatier_server.demo.gateway import DemoError, Gateway, wait_until_ready
from alphatier_server.demo.questions import QUESTIONS, answers_table, ask, ask_everywhere, show_reasoning

START_SECONDS = 300.0

GO_ON = """
Go on yourself: `.venv/bin/alphatier serve` starts the same on port 8000. Then

  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "{question}"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
  ask = [{{"role": "user", "content": "{question}"}}]
  client.chat.completions.create(model="{family}", messages=ask, reasoning_effort="low")
  client.chat.completions.create(model="{family}", messages=ask, extra_body={{"efficiency_tier": "{tier}"}})

  .venv/bin/alphatier ask --all-tiers "{question}"

README.md tells the rest; server/README.md has every way to choose a tier and every metric."""


def run(gateway: Gateway, console: Console, limit: float) -> None:
    """The demo itself. Raises DemoError or AskError."""
    url = wait_until_ready(gateway, console, limit)
    asker = Asker(url, retries=0)
    tiers = asker.tiers()
    console.print("One uncounted question to every tier first: it loads the adapter.")
    for tier in tiers:
        ask(asker, tier, QUESTIONS[0])
    before = read_metrics(url)
    answers = ask_everywhere(asker, console)
    moved = {key: value - before[key] for key, value in read_metrics(url).items()}
    console.print()
    console.print(answers_table(answers, asker.cards()))
    show_reasoning(answers, console)
    console.print()
    console.print(metrics_table(moved, answers))
    check_counters(moved, answers)
    console.print("Tier by tier, these counters equal the sum of the `usage` that the client saw.")
    sample = {"family": asker.family, "tier": tiers[-1], "model": list(answers)[-1], "question": QUESTIONS[1].text}
    console.print(GO_ON.format(**sample), markup=False, highlight=False, soft_wrap=True)


@click.command()
@click.option("--family", type=click.Path(path_type=Path), help="Folder of the family. [default: models/tiny]")
@click.option("--engine", help="auto, vllm, transformers or a URL, as for `alphatier serve`.")
@click.option("--start-seconds", default=START_SECONDS, show_default=True, help="Longest wait for the engine.")
def main(family: Path | None, engine: str | None, start_seconds: float) -> None:
    """Serve a family and ask it the same questions at every tier."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110, highlight=False)
    arguments = [f"--family={family}"] if family else []
    arguments += [f"--engine={engine}"] if engine else []
    folder = Path(tempfile.mkdtemp(prefix="alphatier-demo-"))
    started = time.monotonic()
    console.print("Starting `alphatier serve` with its engine ...")
    gateway = Gateway(arguments, folder)
    try:
        run(gateway, console, start_seconds)
        status = 0
    except (DemoError, AskError) as error:
        explain(error, gateway, console)
        status = 1
    except KeyboardInterrupt:
        console.print("\nStopped.")
        status = 130
    finally:
        gateway.stop()
    if status != 1:
        shutil.rmtree(folder)
    if status == 0:
        console.print(f"\nDone in {time.monotonic() - started:.0f} s; nothing is left running.")
    sys.exit(status)


def explain(error: Exception, gateway: Gateway, console: Console) -> None:
    """Say what failed and what the gateway and its engine said last."""
    console.print(f"\nThe demo failed: {error}", style="red", markup=False)
    console.print("\n".join(gateway.last_lines()), markup=False, soft_wrap=True)
    console.print(f"The whole logs are in {gateway.log.parent}", markup=False)


if __name__ == "__main__":
    main()
