"""The gateway's configuration file under soak."""

from collections.abc import Sequence
from pathlib import Path

ENGINE_TIMEOUT = 1.5
"""The gateway's limit for a silent engine, in seconds; short, so that stalls end within the soak."""


def write_configuration(file: Path, engines: Sequence[str], redis_url: str | None, most_in_flight: int) -> None:
    """Limits in Redis where there is one, and a queue: not all clients' requests are worked on at once."""
    lines = [
        'families = ["toy"]',
        "[limits]",
        f"engine_timeout = {ENGINE_TIMEOUT}",
        "client_timeout = 5.0",
        "keepalive_seconds = 0.8",
    ]
    lines += ["[overload]", f"max_in_flight = {most_in_flight}", "[access]", f'keys_file = "{file.parent}/keys.toml"']
    lines += [] if redis_url is None else [f'redis_url = "{redis_url}"']
    for url in engines:
        lines += ["[[engines]]", f'url = "{url}"']
    file.write_text("\n".join([*lines, ""]))
