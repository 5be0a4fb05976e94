"""`[shadow]`: a share of the requests is asked of the reference tier too, and both answers are compared."""

from pydantic import Field

from alphatier_server.settings.section import Section


class ShadowSettings(Section):
    """Off where the share is 0. The caps are of each worker process; the tokens are shared out among them."""

    share: float = Field(
        0.0, ge=0, le=1, description="Share of requests that the reference tier answers too; 0: none."
    )
    tier: str | None = Field(None, description="The reference tier; without it, or in a family without it, its own.")
    tokens_per_hour: int = Field(
        1_000_000,
        ge=1,
        le=10**12,
        description="Prompt and completion tokens that the comparisons may use in an hour.",
    )
    max_in_flight: int = Field(4, ge=1, description="Comparisons that run at once.")
    max_engine_in_flight: int = Field(
        32, ge=1, description="An engine that works on more requests than this gets no comparison."
    )
    timeout: float = Field(300.0, gt=0, description="Longest wait for the reference tier's answer, in seconds.")
