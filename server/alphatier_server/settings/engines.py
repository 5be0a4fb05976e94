"""What an operator says about engines: one that runs already, by URL, or a kind of engine to run."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from alphatier_server.settings.section import Section

Name = Annotated[str, StringConstraints(pattern=re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"))]

ENGINE_KEY = re.compile(r"[\x21-\x7e]+")
"""What an engine's API key may hold: visible ASCII, as it goes into a header line."""


class EngineSettings(Section):
    """`[[engines]]`. An engine by URL serves what it lists at /v1/models; one that is started here serves a family.

    Which URLs the gateway talks to is the operator's decision (file, command line, admin key): they may lie
    in the private network. No client can name one.
    """

    url: str | None = None
    """An engine that runs already."""
    name: Name | None = None
    """What an engine by URL is called in metrics and by the admin API; else its host and port."""
    kind: Literal["auto", "vllm", "transformers"] = "auto"
    """What to run where there is no URL; `auto` is vLLM where it is installed."""
    replicas: Annotated[int, Field(ge=1, le=256)] = 1
    """How often to run it."""
    arguments: list[str] = Field(default_factory=list)
    """Added to its command line."""
    families: list[str] | None = None
    """The families that it serves; all where none are named."""
    api_key_env: str | None = None
    """The environment variable with the key of an engine by URL."""
    priority: bool = False
    """Whether vLLM heeds the priority that a request carries. One that is started here gets
    `--scheduling-policy priority`; one by URL must have been started with it. Not for `transformers serve`."""
    load_adapters: bool = False
    """Have an engine by URL load and unload adapters while it runs. It must see the family's folder under the
    same path, and belong to this gateway alone."""

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)  # a ValueError for a bad port or host says so
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("is no http(s) URL; write it as http://HOST:PORT")
        if "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[^!-\[\]-~]", url):
            raise ValueError(
                "has more than scheme, host, port and path in ASCII; give a key by api_key_env, a host in punycode"
            )
        return url.rstrip("/").removesuffix("/v1")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.url is not None and (self.kind != "auto" or self.replicas != 1 or self.arguments):
            raise ValueError("kind, replicas and arguments are for engines that are started here; remove them or url")
        if self.priority and self.kind == "transformers":
            raise ValueError("priority is for vLLM; remove it")
        if self.url is None and (self.name or self.api_key_env or self.load_adapters):
            raise ValueError("name, api_key_env and load_adapters are for engines by URL; remove them or add url")
        return self

    def label(self) -> str:
        """The name of an engine by URL."""
        assert self.url is not None
        parts = urlsplit(self.url)
        return self.name or re.sub(r"[^A-Za-z0-9._:-]+", "-", parts.netloc + parts.path).strip("-")
