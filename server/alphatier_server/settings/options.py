"""The options of `alphatier serve` that set one key of the file each: name, help and default are the key's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from alphatier_server.settings.gateway import GatewayConfig

Command = TypeVar("Command", bound=Callable[..., Any])

KEYS: dict[str, str] = {
    "--host": "listen.host",
    "--port": "listen.port",
    "--admin-port": "listen.admin_port",
    "--tls-cert": "listen.tls_cert",
    "--tls-key": "listen.tls_key",
    "--workers": "workers",
    "--keys": "access.keys_file",
    "--connect-timeout": "limits.connect_timeout",
    "--first-byte-timeout": "limits.first_byte_timeout",
    "--engine-timeout": "limits.engine_timeout",
    "--client-timeout": "limits.client_timeout",
    "--keepalive-seconds": "limits.keepalive_seconds",
    "--max-body-bytes": "limits.max_body_bytes",
    "--drain-seconds": "limits.drain_seconds",
    "--drain-delay": "limits.drain_delay",
    "--engine-logs": "engine_logs",
    "--checksums": "checksums",
    "--log-level": "log.level",
    "--log-format": "log.format",
    "--log-prompts": "log.prompts",
}
_HELP = {"--keys": "File with the API keys; `alphatier keys new NAME` writes one. Without it everybody may ask."}


def settings_options(command: Command) -> Command:
    """Decorate a click command with all of them; what is not given arrives as None."""
    for option, key in reversed(KEYS.items()):
        command = _option(option, _field(key))(command)
    return command


def overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, nested as the file is."""
    document: dict[str, Any] = {}
    for option, key in KEYS.items():
        if (value := given.get(option.removeprefix("--").replace("-", "_"))) is not None:
            table, _, name = key.rpartition(".")
            place = document.setdefault(table, {}) if table else document
            place[name] = value
    return document


def _field(key: str) -> FieldInfo:
    table, _, name = key.rpartition(".")
    model: Any = GatewayConfig.model_fields[table].annotation if table else GatewayConfig
    field: FieldInfo = model.model_fields[name]
    return field


def _option(option: str, field: FieldInfo) -> Callable[[Command], Command]:
    kind = _plain(field.annotation)
    text = _HELP.get(option, field.description or "")
    default = field.get_default(call_default_factory=True)
    if kind is bool:
        name = option.removeprefix("--")
        return click.option(
            f"--{name}/--no-{name}", default=None, help=f"{text} [default: {'yes' if default else 'no'}]"
        )
    if default is not None:
        text += f" [default: {default:g}]" if kind is float else f" [default: {default}]"
    if get_origin(kind) is Literal:
        kind = click.Choice(get_args(kind))
    elif kind not in (int, float, str):
        kind = click.Path(path_type=Path)
    return click.option(option, type=kind, default=None, help=text)


def _plain(annotation: Any) -> Any:
    """The type below `X | None` and `Annotated[X, ...]`."""
    while get_origin(annotation) is Annotated or NoneType in get_args(annotation):
        annotation = next(inner for inner in get_args(annotation) if inner is not NoneType)
    return annotation
