"""`alphatier serve` and `alphatier ask`. Light at import: the gateway is loaded when a command runs."""

import json
from contextlib import closing

import click

from alphatier_server.process.command import serve

__all__ = ["ask", "serve"]

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
