"""`[auto]`: what `auto` weighs where a family has a router (router.json)."""

from typing import Self

from pydantic import Field, model_validator

from alphatier_server.settings.section import Section

LOSS_ALLOWED = 0.005
"""Of accuracy, where the operator sets nothing."""


class AutoSettings(Section):
    """At most one of them; nothing: the fewest tokens at half a point of accuracy less than the best tier."""

    tokens_a_point: float | None = Field(
        None, gt=0, description="Tokens that a point (a hundredth) of accuracy is worth, e.g. 20."
    )
    accuracy_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The fewest tokens at this share of the most accurate tier's accuracy, e.g. 0.95.",
    )
    mean_tokens: float | None = Field(
        None, gt=0, description="The most accuracy at so many tokens an answer on average, or fewer."
    )

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if sum(wish is not None for wish in (self.tokens_a_point, self.accuracy_share, self.mean_tokens)) > 1:
            raise ValueError("tokens_a_point, accuracy_share and mean_tokens exclude each other; set one of them")
        return self
