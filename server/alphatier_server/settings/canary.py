"""`[canary]`: when a new version of a tier is rolled back without being asked."""

from pydantic import Field

from alphatier_server.settings.section import Section


class CanarySettings(Section):
    """Which version is tried, and on how many requests, stands in family.json (`canary`)."""

    roll_back: bool = Field(True, description="Roll a version back that is worse beyond doubt.")
    samples: int = Field(200, ge=30, description="Answers of each side before anything is judged.")
    more_tokens: float = Field(
        0.05, ge=0, description="A version may use this share of tokens more; 0.05: a twentieth."
    )
