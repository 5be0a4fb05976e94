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
@click.option("--compare", is_flag=True, help="Ask every tier, auto and the default, side by side.")
@click.option("--right", metavar="TEXT", help="With --compare: the right answer, to mark each.")
@click.option("--deadline-ms", type=click.IntRange(1), help="With --compare: the time that the choosers have.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an answer, for scripts.")
def ask(
    question: str,
    url: str,
    api_key: str | None,
    model: str | None,
    tier: str | None,
    effort: str | None,
    compare: bool,
    right: str | None,
    deadline_ms: int | None,
    as_json: bool,
) -> None:
    """Ask a running gateway QUESTION through the official OpenAI SDK.

    \b
    Examples:
      alphatier ask "What is 17 + 25 - 8?"
      alphatier ask --effort low "What is 17 + 25 - 8?"
      alphatier ask --compare --right 34 "What is 17 + 25 - 8?"
    """
    from alphatier_server.ask import Asker, AskError, Compared, print_answer, print_comparison

    if compare and (tier or effort):
        raise click.UsageError("--compare asks every tier; leave --tier and --effort out.")
    if not compare and (right or deadline_ms):
        raise click.UsageError("--right and --deadline-ms are for --compare.")
    try:
        with closing(Asker(url, model, api_key)) as asker:
            if compare:
                rows = list(asker.compare(question, right, deadline_ms))
            else:
                answer = asker.ask(question, tier=tier, effort=effort)
    except AskError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        for document in map(Compared.document, rows) if compare else [vars(answer)]:
            click.echo(json.dumps(document))
    elif compare:
        print_comparison(rows)
    else:
        print_answer(answer)


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
