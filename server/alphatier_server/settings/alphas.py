"""`[alphas]`: what a family with a gated adapter is asked for between its tiers."""

from pydantic import Field

from alphatier_server.settings.section import Section

STEP = 0.05


class AlphaSettings(Section):
    """Any alpha up to the family's largest can be asked for; an adapter is made of it the first time."""

    step: float = Field(STEP, ge=0.01, le=0.5, description="Alphas that no tier has are rounded to multiples of it.")
    keep: int = Field(
        4, ge=1, le=100, description="Adapters beside the tiers' own that are loaded at once: the most used."
    )
    wait_seconds: float = Field(
        10.0, ge=0, description="Longest wait for an adapter; then, at 0 at once, the nearest tier answers."
    )
