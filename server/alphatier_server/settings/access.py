"""What an operator sets about access: where keys come from, their limits, where limits are counted."""

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from alphatier_server.settings.section import File, Section

RedisFailure = Literal["local", "refuse", "allow"]

Amount = Field(default=None, ge=1, le=10**12)


class KeyLimits(Section, strict=False):
    """Limits of one key; what is left out is not limited. A burst left out is one minute's worth."""

    requests_per_minute: int | None = Amount
    requests_burst: int | None = Amount
    """Requests that may come at once after a pause."""
    tokens_per_minute: int | None = Amount
    """Prompt and completion tokens together."""
    tokens_burst: int | None = Amount
    concurrent_requests: int | None = Amount
    concurrent_streams: int | None = Amount

    @model_validator(mode="after")
    def _bursts_belong_to_rates(self) -> Self:
        for unit in ("requests", "tokens"):
            if getattr(self, f"{unit}_burst") is not None and getattr(self, f"{unit}_per_minute") is None:
                raise ValueError(f"{unit}_burst needs {unit}_per_minute beside it")
        return self


class AccessSettings(Section, strict=False):
    """Access control. Without any key the gateway answers everybody, and nobody may use its admin API."""

    keys_file: File | None = None
    """TOML file of hashed keys, as `alphatier keys` writes it; read again whenever it changes."""
    environment: bool = True
    """Whether to take keys from ALPHATIER_API_KEYS and ALPHATIER_ADMIN_KEYS as well."""
    limits: KeyLimits = KeyLimits()
    """Limits of keys that set none of their own."""
    redis_url: SecretStr | None = None
    """Counts limits in this Redis, for all gateways together, e.g. `redis://:password@host:6379/0`; better as
    the variable ALPHATIER_REDIS_URL."""
    redis_prefix: str = Field("alphatier", min_length=1, max_length=64)
    """Begins the names of the gateway's keys in Redis."""
    redis_failure: RedisFailure = "local"
    """While Redis does not answer: `local` counts in each gateway by itself, `refuse` answers 503, `allow` lets
    everything pass."""
    allowed_media_hosts: tuple[str, ...] = ()
    """Hosts (`example.org`, `*.example.org`) from which engines may fetch images, video and audio that a request
    names by URL. Others are refused; `data:` URLs always pass."""

    @field_validator("allowed_media_hosts")
    @classmethod
    def _hosts_in_lower_case(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", host):
                raise ValueError(f"{host!r} is no host; write example.org, or *.example.org for all below it")
        return tuple(host.lower() for host in hosts)
