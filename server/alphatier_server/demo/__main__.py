"""The demo: a real engine, a real gateway, the same questions at every tier and by auto, and what it all cost.

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
from rich.columns import Columns
from rich.console import Console

from alphatier_server.ask import Asker, AskError
from alphatier_server.demo.gateway import SAVED, DemoError, check_counters, read_metrics, serving, wait_until_ready
from alphatier_server.demo.questions import HARD, ask, ask_auto_too, ask_everywhere, questions_for
from alphatier_server.demo.show import (
    answers_table,
    auto_in_words,
    bars,
    beside_auto,
    metrics_table,
    picture,
    questions_list,
    reasoning,
    saved,
)

GO_ON = """
Go on yourself: `.venv/bin/alphatier serve` starts the same on port 8000. Then

  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{family}:{tier}", "messages": [{{"role": "user", "content": "{question}"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
  ask = [{{"role": "user", "content": "{question}"}}]
  client.chat.completions.create(model="{family}", messages=ask, reasoning_effort="low")
  client.chat.completions.create(model="{family}", messages=ask, extra_body={{"efficiency_tier": "{tier}"}})

  .venv/bin/alphatier ask --compare "{question}"

README.md tells the rest; server/README.md has every way to choose a tier and every metric."""


def run(url: str, console: Console) -> None:
    """The demo itself, with the gateway at `url`. Raises DemoError or AskError."""
    asker = Asker(url, retries=0)
    tiers, (questions, mixed) = asker.tiers(), questions_for(asker.cards())
    console.print("One uncounted question to every tier first: it loads the adapter.")
    for tier in tiers:
        ask(asker, tier, questions[0])
    before = read_metrics(url)
    tallies = ask_everywhere(asker, questions, console)
    moved = {key: value - before[key] for key, value in read_metrics(url).items()}
    console.print("\nThe same questions at every tier (→ the right answers):\n")
    console.print(questions_list(questions))
    console.print("\n✓ right, ✗ wrong, and the tokens of reasoning and answer:\n")
    console.print(answers_table(tallies, questions))
    console.print("", reasoning(tallies, questions[HARD]), "", sep="\n")
    width = min(60, console.width * 3 // 5)
    console.print(Columns([picture(asker.cards(), width), bars(tallies, console.width - width)], padding=(0, 3)))
    estimate = sum(moved[SAVED, tier] for tier in tiers)
    console.print(f"\n{saved(tallies)}\nThe gateway's own estimate, for all tiers: {estimate:.0f} tokens saved.\n")
    console.print(metrics_table(moved, tallies))
    check_counters(moved, tallies)
    console.print("Tier by tier, these counters equal the sum of the `usage` that the client saw.")
    console.print(f"\n{len(mixed)} mixed problems at every tier, and by auto, which chooses by the text of each:\n")
    beside = ask_auto_too(asker, mixed, console)
    console.print(
        beside_auto(beside, asker.cards(), console.width), "", auto_in_words(beside, asker.cards()), sep="\n"
    )
    go_on = GO_ON.format(family=asker.family, tier=tiers[-1], question=questions[1].text)
    console.print(go_on, markup=False, soft_wrap=True)


@click.command()
@click.option("--family", type=click.Path(path_type=Path), help="Folder of the family. [default: models/tiny]")
@click.option("--engine", help="auto, vllm, transformers or a URL, as for `alphatier serve`.")
@click.option("--start-seconds", default=300.0, show_default=True, help="Longest wait for the engine.")
def main(family: Path | None, engine: str | None, start_seconds: float) -> None:
    """Serve a family and ask it the same questions at every tier."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100, highlight=False)
    arguments = [f"--{name}={value}" for name, value in (("family", family), ("engine", engine)) if value]
    folder = Path(tempfile.mkdtemp(prefix="alphatier-demo-"))
    started = time.monotonic()
    status = 0
    console.print("Starting `alphatier serve` with its engine ...")
    with serving(arguments, folder) as gateway:
        try:
            run(wait_until_ready(gateway, folder, console, start_seconds), console)
        except (DemoError, AskError) as error:
            console.print(f"\nThe demo failed: {error}", style="red", markup=False)
            for log in sorted(folder.glob("*.log")):
                lines = (f"    {line[:300]}" for line in log.read_text(errors="replace").splitlines()[-15:])
                console.print(f"{log}:", *lines, sep="\n", markup=False, soft_wrap=True)
            console.print(f"The whole logs are in {folder}", markup=False)
            status = 1
        except KeyboardInterrupt:
            console.print("\nStopped.")
            status = 130
    if status != 1:
        shutil.rmtree(folder)
    if status == 0:
        console.print(f"\nDone in {time.monotonic() - started:.0f} s; nothing is left running.")
    sys.exit(status)


if __name__ == "__main__":
    main()
