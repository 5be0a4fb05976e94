"""`alphatier serve` and `alphatier ask`. Light at import: the gateway is loaded when a command runs."""

import json
import logging
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

DEFAULT_URL = "http://127.0.0.1:8000"


@click.command()
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of a family (with its family.json). Repeat it to serve several. [default: models/tiny]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    default=("auto",),
    show_default=True,
    metavar="auto|vllm|transformers|URL",
    help="auto runs vLLM where it is installed, else `transformers serve`. A URL names an engine that runs "
    "already, e.g. http://gpu-1:8001; repeat it for several.",
)
@click.option(
    "--engine-arg",
    "engine_arguments",
    multiple=True,
    metavar="ARG",
    help="Added to the engine's command line; repeat it: --engine-arg=--max-model-len --engine-arg=8192.",
)
@click.option("--engine-timeout", default=600.0, show_default=True, help="Longest silence of an engine, in seconds.")
@click.option(
    "--client-timeout",
    default=60.0,
    show_default=True,
    help="Longest wait for a client to send its body or take more of its answer, in seconds.",
)
@click.option("--engine-logs", type=click.Path(path_type=Path), help="Folder for engine logs. [default: temporary]")
@click.option(
    "--engine-api-key",
    envvar="ALPHATIER_ENGINE_API_KEY",
    help="Bearer token for engines given by URL; better set as ALPHATIER_ENGINE_API_KEY.",
)
@click.option("--max-body-bytes", default=32 * 1024 * 1024, show_default=True, help="Largest request body.")
@click.option("--drain-seconds", default=60, show_default=True, help="How long open requests may finish at the end.")
@click.option("--checksums/--no-checksums", default=True, help="Verify the weights' checksums at start.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
def serve(
    families: tuple[Path, ...],
    host: str,
    port: int,
    engines: tuple[str, ...],
    engine_arguments: tuple[str, ...],
    engine_timeout: float,
    client_timeout: float,
    engine_logs: Path | None,
    engine_api_key: str | None,
    max_body_bytes: int,
    drain_seconds: int,
    checksums: bool,
    log_level: str,
) -> None:
    """Serve a family behind OpenAI's API.

    Starts the engines, restarts one that crashes, and stops all of them on Ctrl-C. Requests are answered
    once /health/ready says so. One JSON line a request goes to standard error; metrics are at /metrics.

    \b
    Examples:
      alphatier serve
      alphatier serve --family runs/tiny --port 8080
      alphatier serve --family models/tiny --engine http://gpu-1:8001 --engine http://gpu-2:8001
    """
    from alphatier_models import FamilyError
    from alphatier_server.engines.plan import EngineError
    from alphatier_server.serve import ServeError, ServeOptions
    from alphatier_server.serve import serve as run

    kind, urls = _engines(engines)
    logging.basicConfig(level=log_level.upper(), format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if log_level == "debug" else logging.WARNING)
    options = ServeOptions(
        families=families or (_default_family(),),
        host=host,
        port=port,
        engine=kind,  # type: ignore[arg-type]
        urls=urls,
        engine_arguments=engine_arguments,
        engine_timeout=engine_timeout,
        client_timeout=client_timeout,
        engine_logs=engine_logs,
        engine_api_key=engine_api_key,
        max_body_bytes=max_body_bytes,
        drain_seconds=drain_seconds,
        checksums=checksums,
    )
    try:
        run(options)
    except (FamilyError, EngineError, ServeError) as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("question")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ALPHATIER_URL", help="The gateway.")
@click.option("--model", help="A family, family:tier or family:auto. [default: the gateway's first family]")
@click.option("--tier", help="Choose the tier by name.")
@click.option("--effort", help="Choose the tier by OpenAI's reasoning_effort: none, minimal, low, ... max.")
@click.option("--all-tiers", is_flag=True, help="Ask every tier and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an answer, for scripts.")
def ask(
    question: str,
    url: str,
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
    from alphatier_server.ask import Answer, Asker, AskError, print_answer, print_comparison

    def show(answer: Answer) -> None:
        if as_json:
            click.echo(json.dumps(vars(answer)))

    try:
        asker = Asker(url, model)
        if all_tiers:
            answers = [asker.ask(question, tier=name) for name in asker.tiers()]
        else:
            answers = [asker.ask(question, tier=tier, effort=effort)]
    except AskError as error:
        raise click.ClickException(str(error)) from error
    for answer in answers:
        show(answer)
    if not as_json and all_tiers:
        print_comparison(answers)
    elif not as_json:
        print_answer(answers[0])


def _engines(given: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The kind of engine to run (None for whichever is installed), or the URLs of running ones."""
    urls = tuple(value for value in given if urlsplit(value).scheme in ("http", "https"))
    kinds = [value for value in given if value not in urls]
    unknown = [value for value in kinds if value not in ("auto", "vllm", "transformers")]
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is neither auto, vllm, transformers nor an http(s) URL.", param_hint="--engine"
        )
    if (urls and kinds) or len(kinds) > 1:
        raise click.BadParameter("Give one of auto, vllm, transformers, or only URLs.", param_hint="--engine")
    return (None if urls or kinds[0] == "auto" else kinds[0]), urls


def _default_family() -> Path:
    """models/tiny, in the working directory or in the checkout that this package was installed from."""
    here = Path("models/tiny")
    shipped = Path(__file__).resolve().parents[2] / "models" / "tiny"
    return here if here.is_dir() or not shipped.is_dir() else shipped
