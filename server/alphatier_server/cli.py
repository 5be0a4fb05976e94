"""`alphatier serve`, `ask` and `explain`. Light at import: the gateway is loaded when a command runs."""

import json
import sys
from contextlib import closing
from pathlib import Path

import click

from alphatier_server.process.command import serve

__all__ = ["ask", "explain", "serve"]

DEFAULT_URL = "http://127.0.0.1:8000"


@click.command()
@click.argument("question")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ALPHATIER_URL", help="The gateway.")
@click.option("--api-key", envvar="ALPHATIER_API_KEY", help="Your key; better set as ALPHATIER_API_KEY.")
@click.option("--model", help="A family, family:tier or family:auto. [default: the gateway's first family]")
@click.option("--tier", help="Choose the tier by name.")
@click.option("--effort", help="Choose the tier by OpenAI's reasoning_effort: none, minimal, low, ... max.")
@click.option("--all-tiers", is_flag=True, help="Ask every tier and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an answer, for scripts.")
def ask(
    question: str,
    url: str,
    api_key: str | None,
    model: str | None,
    tier: str | None,
    effort: str | None,
    all_tiers: bool,
    as_json: bool,
) -> None:
    """Ask a running gateway QUESTION through the official OpenAI SDK.

    \b
    Examples:
      alphatier ask "What is 17 + 25 - 8?"
      alphatier ask --effort low "What is 17 + 25 - 8?"
      alphatier ask --all-tiers "What is 17 + 25 - 8?"
    """
    from alphatier_server.ask import Asker, AskError, print_answer, print_comparison

    try:
        with closing(Asker(url, model, api_key)) as asker:
            if all_tiers:
                answers = [asker.ask(question, tier=name) for name in asker.tiers()]
            else:
                answers = [asker.ask(question, tier=tier, effort=effort)]
    except AskError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        for answer in answers:
            click.echo(json.dumps(vars(answer)))
    elif all_tiers:
        print_comparison(answers)
    else:
        print_answer(answers[0])


@click.command()
@click.argument("request_id")
@click.option(
    "--log",
    metavar="FILE",
    envvar="ALPHATIER_LOG",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Where standard error of `alphatier serve` goes, or - for standard input. Files that were rotated away "
    "from it are looked into too. [default: ALPHATIER_LOG, else what is piped in]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def explain(request_id: str, log: Path | None, as_json: bool) -> None:
    """Explain the request of this REQUEST_ID: what was asked, expected, chosen, and what came.

    The id is the answer's header x-request-id. The prompt is shown only where the gateway logs prompts.

    \b
    Examples:
      alphatier serve 2>> gateway.log
      alphatier explain --log gateway.log 3f1c0e6b9d2a4c58
      kubectl logs deploy/gateway | alphatier explain 3f1c0e6b9d2a4c58
    """
    from alphatier_server.explain import ExplainError, print_explanation
    from alphatier_server.explain import explain as explained

    if log is None and sys.stdin.isatty():
        raise click.UsageError(
            "Which log? The gateway writes to standard error: alphatier serve 2>> gateway.log, then --log gateway.log"
        )
    try:
        told = explained(request_id, None if log is None or str(log) == "-" else log)
    except ExplainError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(told))
    else:
        print_explanation(told)
