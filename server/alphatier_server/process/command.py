"""`alphatier serve`: its options, and what happens before anything is started.

Light to import: what serves is loaded when it runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from alphatier_models import FamilyError
from alphatier_server.errors import ConfigError, EngineError, KeyFileError, ServeError
from alphatier_server.process.messages import Refusal, configure_logging, keep_standard_error
from alphatier_server.settings.families import load_families
from alphatier_server.settings.file import Source
from alphatier_server.settings.options import overrides, settings_options
from alphatier_server.settings.show import lines, without_passwords

SHIPPED_FAMILY = "models/tiny"
_ENGINE_KEY_VARIABLE = "ALPHATIER_ENGINE_API_KEY"


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with all settings; options win.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"Folder of a family (with its family.json). Repeat it to serve several. [default: {SHIPPED_FAMILY}]",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="auto|vllm|transformers|URL",
    help="auto runs vLLM where it is installed, else `transformers serve`. A URL names an engine that runs "
    "already, e.g. http://gpu-1:8001; repeat it for several. [default: auto]",
)
@click.option(
    "--engine-arg",
    "arguments",
    multiple=True,
    metavar="ARG",
    help="Added to the engine's command line; repeat it: --engine-arg=--max-model-len --engine-arg=8192.",
)
@click.option("--replicas", type=click.IntRange(1), help="How often to run each managed engine. [default: 1]")
@click.option(
    "--engine-api-key",
    envvar=_ENGINE_KEY_VARIABLE,
    help=f"Bearer token for engines given by URL; better set as {_ENGINE_KEY_VARIABLE}.",
)
@settings_options
@click.option("--check-config", is_flag=True, help="Check everything, print the settings in effect, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --check-config: print JSON.")
def serve(
    file: Path | None,
    families: tuple[Path, ...],
    engines: tuple[str, ...],
    arguments: tuple[str, ...],
    replicas: int | None,
    engine_api_key: str | None,
    check_config: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Serve a family behind OpenAI's API.

    Starts the engines, restarts one that crashes, and stops all of them on Ctrl-C. Requests are answered
    once /health/ready says so. One JSON line a request goes to standard error; metrics are at /metrics.

    \b
    Examples:
      alphatier serve
      alphatier serve --family runs/tiny --port 8080
      alphatier serve --family models/tiny --engine http://gpu-1:8001 --engine http://gpu-2:8001
      alphatier serve --config gateway.toml --check-config
    """
    above = overrides(given)
    if families:
        above["families"] = list(families)
    if engines or arguments or replicas:
        above["engines"] = _engines(engines or ("auto",), arguments, replicas)
    form = above.get("log", {}).get("format", "auto")
    source = Source(file, above)
    try:
        if check_config:
            _check(source, as_json=as_json)
        else:
            _serve(source, engine_api_key)
    except (ConfigError, KeyFileError, FamilyError, EngineError, ServeError) as error:
        raise click.ClickException(str(error)) if check_config else Refusal(str(error), form) from error


def _engines(given: Sequence[str], arguments: Sequence[str], replicas: int | None) -> list[dict[str, Any]]:
    """The `[[engines]]` that the command line describes: one kind to run, or the URLs of running ones."""
    urls = [value for value in given if urlsplit(value).scheme in ("http", "https")]
    kinds = [value for value in given if value not in urls]
    unknown = [value for value in kinds if value not in ("auto", "vllm", "transformers")]
    fault = ""
    if unknown:
        fault = f"{unknown[0]!r} is neither auto, vllm, transformers nor an http(s) URL."
    elif (urls and kinds) or len(kinds) > 1:
        fault = "Give one of auto, vllm, transformers, or only URLs; a --config file can have both."
    elif urls and (arguments or replicas):
        fault = "--engine-arg and --replicas are for engines that are started here, not for URLs."
    if fault:
        raise click.BadParameter(fault, param_hint="--engine")
    if urls:
        return [{"url": url} for url in urls]
    return [{"kind": kinds[0], "replicas": replicas or 1, "arguments": list(arguments)}]


def _serve(source: Source, engine_api_key: str | None) -> None:
    """Serve in one process or several until Ctrl-C or SIGTERM."""
    from alphatier_server.process.gateway_process import serve_alone, serve_with_workers

    keep_standard_error()
    config = source.load()
    configure_logging(config.log)
    run = serve_alone if config.workers == 1 else serve_with_workers
    run(source, config, engine_api_key)


def _check(source: Source, *, as_json: bool) -> None:
    """Find everything wrong that can be found without starting anything, then print the settings in effect."""
    from alphatier_server.engines.api import EngineKeys
    from alphatier_server.engines.plan import installed_engine
    from alphatier_server.keys.access import build_access
    from alphatier_server.process.tls import certificate_of

    config = source.load()
    load_families(config.families, checksums=config.checksums)
    certificate_of(config.listen)
    build_access(config.access)
    keys = EngineKeys()
    for engine in config.engines:
        keys.of(engine)
    if any(engine.url is None and engine.kind == "auto" for engine in config.engines) or not config.engines:
        installed_engine()
    document = config.model_dump(mode="json")
    text = json.dumps(document, indent=2) if as_json else "\n".join(lines(document)).rstrip()
    click.echo(without_passwords(text))
