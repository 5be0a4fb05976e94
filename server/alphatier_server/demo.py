"""The demo: a real engine, a real gateway, the same questions at every tier, and what it all cost.

    python -m alphatier_server.demo        (what `make demo` runs)

Starts `alphatier serve` on a free port, asks through the official OpenAI SDK, reads /metrics, stops
everything. It fails when the engine does not come up, when a question gets no answer, or when the
counters disagree with the usage that the client saw. It measures nothing: `alphatier evaluate` does.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import openai
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

START_SECONDS = 300.0
ANSWER_SECONDS = 60.0
STOP_SECONDS = 30.0
PLAIN_EVERY_SECONDS = 10.0

# Counters of tokens, as /metrics names them between `alphatier_` and `_total`.
METRICS = ("completion_tokens", "reasoning_tokens", "prompt_tokens")

# The gateway runs here: a proxy from the environment must not come between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True)
class Question:
    """A question and its right answer; None where there is none."""

    kind: str
    text: str
    answer: int | None


# For the shipped family: sums worked from left to right, every running value from 0 to 99.
QUESTIONS = (
    Question("easy", "What is 7 + 5?", 12),
    Question("middling", "What is 17 + 25 - 8?", 34),
    Question("hard", "What is 84 - 37 + 45?", 92),
    Question("malformed", "What is seven of nothing?", None),
)


@dataclass(frozen=True)
class Reply:
    """What came back for one question at one tier."""

    content: str
    reasoning: str
    completion_tokens: int
    reasoning_tokens: int | None
    seconds: float

    @property
    def answer(self) -> str:
        """What it says: the last box, else the last number, else its text."""
        found = re.findall(r"\\boxed\{([^{}]*)\}", self.content) or re.findall(r"-?\d+", self.content)
        return (found[-1] if found else self.content).strip()

    def verdict(self, question: Question) -> Text:
        """The answer, marked right or wrong where that can be said."""
        if question.answer is None:
            return Text(self.content.strip() or "(empty)")
        shown = self.answer if len(self.answer) <= 24 else self.answer[:23] + "…"
        right = self.answer == str(question.answer)
        return Text(f"{shown or '(empty)'} {'right' if right else 'wrong'}", style="green" if right else "red")

    def cost(self) -> str:
        """Tokens as reasoning + answer where the engine tells them apart, and seconds."""
        if self.reasoning_tokens is None:
            tokens = f"{self.completion_tokens}"
        else:
            tokens = f"{self.reasoning_tokens} + {self.completion_tokens - self.reasoning_tokens}"
        return f"{tokens} tok\n{self.seconds:.2f} s"


Replies = dict[str, list[Reply]]
"""By model name, in the order of QUESTIONS."""

Counts = dict[tuple[str, str], float]
"""By metric and model name."""


class Gateway:
    """`alphatier serve` in a process of its own, on a free port, ended with everything under it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.log = folder / "serve.log"
        # The guard ends the gateway if this process is gone, even by SIGKILL; its own session keeps Ctrl-C ours.
        guard = [sys.executable, "-P", "-m", "alphatier_server.engines.guard"]
        serve = [sys.executable, "-m", "alphatier_models.cli", "serve", "--port=0", f"--engine-logs={folder}"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*guard, *serve, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def url(self) -> str | None:
        """Where it listens, once it has said so."""
        said = re.search(r"https?://[\w.:\[\]]+", self.log.read_text(errors="replace"))
        return said.group() if said else None

    def ready(self) -> bool:
        """Whether it can answer. Raises DemoError when it has ended."""
        if self._process.poll() is not None:
            raise DemoError(f"`alphatier serve` ended with status {self._process.returncode}")
        url = self.url()
        return url is not None and _get(f"{url}/health/ready") is not None

    def stop(self) -> None:
        """End it and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()

    def last_lines(self, count: int = 15) -> Iterator[str]:
        """The ends of the gateway's and the engines' logs."""
        for log in sorted(self.log.parent.glob("*.log")):
            yield f"{log}:"
            yield from (f"    {line[:300]}" for line in log.read_text(errors="replace").splitlines()[-count:])


def wait_until_ready(gateway: Gateway, console: Console, limit: float) -> None:
    """Wait for the engine, with the time that passes on display. Raises DemoError past the limit."""
    started = told = time.monotonic()
    with console.status("") as status:
        while not gateway.ready():
            seconds = time.monotonic() - started
            if seconds > limit:
                raise DemoError(f"no engine answered within {limit:.0f} s")
            status.update(f"the engine is loading · {seconds:.0f} s")
            if not console.is_terminal and time.monotonic() - told >= PLAIN_EVERY_SECONDS:
                told = time.monotonic()
                console.print(f"the engine is loading · {seconds:.0f} s")
            time.sleep(0.2)
    console.print(f"The engine is ready after {time.monotonic() - started:.0f} s, behind {gateway.url()}/v1")


def find_tiers(client: openai.OpenAI) -> tuple[str, list[dict[str, Any]]]:
    """The first family's name and its tiers as /v1/models tells them."""
    cards = [(card.id, getattr(card, "alphatier", None) or {}) for card in client.models.list()]
    family = str(cards[0][1]["family"])
    tiers = [details for name, details in cards if name == f"{family}:{details.get('tier')}"]
    return family, tiers


def ask(client: openai.OpenAI, model: str, question: Question) -> Reply:
    """Ask once, greedily, so that the demo shows the same answers every time. Raises DemoError."""
    started = time.perf_counter()
    try:
        completion = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question.text}], temperature=0, max_tokens=512
        )
    except openai.APIError as error:
        raise DemoError(f"{model} gave no answer to {question.text!r}: {error}") from error
    seconds = time.perf_counter() - started
    if completion.usage is None:
        raise DemoError(f"{model} answered without usage")
    message, details = completion.choices[0].message, completion.usage.completion_tokens_details
    return Reply(
        content=message.content or "",
        reasoning=getattr(message, "reasoning", None) or "",
        completion_tokens=completion.usage.completion_tokens,
        reasoning_tokens=details.reasoning_tokens if details else None,
        seconds=seconds,
    )


def ask_everywhere(client: openai.OpenAI, models: list[str], console: Console) -> Replies:
    """Every question at every tier, one at a time, so that the seconds can be compared."""
    replies: Replies = defaultdict(list)
    with console.status("") as status:
        for model in models:
            if not console.is_terminal:
                console.print(f"asking {model}")
            for number, question in enumerate(QUESTIONS, 1):
                status.update(f"asking {model} · question {number} of {len(QUESTIONS)}")
                replies[model].append(ask(client, model, question))
    return replies


def answers_table(replies: Replies, tiers: list[dict[str, Any]]) -> Table:
    """Tiers down, questions across."""
    table = Table(title="The same questions at every tier (tok: reasoning + answer tokens)", show_lines=True)
    table.add_column("tier", no_wrap=True)
    for question in QUESTIONS:
        table.add_column(f"{question.kind}\n{question.text}", overflow="fold")
    table.add_column("all", justify="right")
    for (model, answers), tier in zip(replies.items(), tiers, strict=True):
        cells = [
            Text.assemble(reply.verdict(question), f"\n{reply.cost()}")
            for question, reply in zip(QUESTIONS, answers, strict=True)
        ]
        total = f"{sum(reply.completion_tokens for reply in answers)} tok"
        table.add_row(Text(f"{model}\n{_measured(tier)}"), *cells, total)
    return table


def _measured(tier: dict[str, Any]) -> str:
    if "accuracy" not in tier:
        return ""
    return f"measured:\n{tier['accuracy']['mean']:.1%} right,\n{tier['tokens']['mean']:.0f} tokens"


def show_reasoning(replies: Replies, console: Console) -> None:
    """The hard question's whole reasoning, at the tier that spent most and at the one that spent least."""
    index = max(range(len(QUESTIONS)), key=lambda at: QUESTIONS[at].answer is not None and len(QUESTIONS[at].text))
    by_cost = sorted(replies, key=lambda model: sum(reply.completion_tokens for reply in replies[model]))
    console.print(f"\nWhat they thought about: {QUESTIONS[index].text}")
    for model in (by_cost[-1], by_cost[0]):
        reply = replies[model][index]
        thought = Text(reply.reasoning.strip() or "(no reasoning told apart)", style="dim")
        thought.append(f"\n{reply.content.strip()}", style="bold not dim")
        console.print(Panel(thought, title=f"{model} · {reply.completion_tokens} tokens", title_align="left"))


def read_metrics(url: str) -> Counts:
    """The token counters of /metrics, summed by metric and tier."""
    text = _get(f"{url}/metrics")
    if text is None:
        raise DemoError("/metrics does not answer")
    counts: Counts = defaultdict(float)
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            name = sample.name.removeprefix("alphatier_").removesuffix("_total")
            if name in (*METRICS, "request_duration_seconds_sum", "request_duration_seconds_count"):
                counts[name, f"{sample.labels['family']}:{sample.labels['tier']}"] += sample.value
    return counts


def metrics_table(moved: Counts, models: list[str]) -> Table:
    """What the questions added to the counters, by tier."""
    table = Table(title="What moved at /metrics (by family and tier)")
    table.add_column("tier", no_wrap=True)
    for metric in METRICS:
        table.add_column(f"alphatier_\n{metric.replace('_', f'_{chr(10)}', 1)}_total", justify="right")
    table.add_column("alphatier_request_\nduration_seconds\n(mean)", justify="right")
    for model in models:
        tokens = [f"{moved[metric, model]:.0f}" for metric in METRICS]
        requests = moved["request_duration_seconds_count", model] or 1
        table.add_row(model, *tokens, f"{moved['request_duration_seconds_sum', model] / requests:.2f}")
    return table


def check_counters(moved: Counts, replies: Replies, console: Console) -> None:
    """The gateway's counters equal what the client was told, tier by tier. Raises DemoError."""
    for model, answers in replies.items():
        told, counted = sum(reply.completion_tokens for reply in answers), moved["completion_tokens", model]
        if told != counted:
            raise DemoError(f"{model}: the answers' usage adds up to {told} tokens, /metrics says {counted:.0f}")
    console.print("Tier by tier, these counters equal the sum of the `usage` that the client saw.")


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
    """The demo itself. Raises DemoError."""
    wait_until_ready(gateway, console, limit)
    url = gateway.url()
    assert url is not None
    client = openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        timeout=ANSWER_SECONDS,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    family, tiers = find_tiers(client)
    models = [f"{family}:{tier['tier']}" for tier in tiers]
    console.print("One uncounted question to every tier first: it loads the adapter.")
    for model in models:
        ask(client, model, QUESTIONS[0])
    before = read_metrics(url)
    replies = ask_everywhere(client, models, console)
    moved = {key: value - before[key] for key, value in read_metrics(url).items()}
    console.print()
    console.print(answers_table(replies, tiers))
    show_reasoning(replies, console)
    console.print()
    console.print(metrics_table(moved, models))
    check_counters(moved, replies, console)
    sample = {"family": family, "tier": tiers[-1]["tier"], "model": models[-1], "question": QUESTIONS[1].text}
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
    except DemoError as error:
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


def explain(error: DemoError, gateway: Gateway, console: Console) -> None:
    """Say what failed and what the gateway and its engine said last."""
    console.print(f"\nThe demo failed: {error}", style="red", markup=False)
    console.print("\n".join(gateway.last_lines()), markup=False, soft_wrap=True)
    console.print(f"The whole logs are in {gateway.log.parent}", markup=False)


def _get(url: str) -> str | None:
    """The body of an answer with status 200."""
    with contextlib.suppress(urllib.error.URLError, OSError), _OPENER.open(url, timeout=5) as response:
        return str(response.read().decode())
    return None


if __name__ == "__main__":
    main()
