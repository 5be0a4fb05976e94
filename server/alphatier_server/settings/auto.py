"""`[auto]`: what `auto` weighs where a family has a router (router.json)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from alphatier_server.settings.section import Section

Goal = Literal["accuracy_share", "mean_tokens", "tokens_a_point"]


class AutoSettings(Section):
    """What tokens and accuracy are worth against each other."""

    goal: Goal = Field(
        "accuracy_share",
        description="accuracy_share: the fewest tokens at this share of the most accurate tier's accuracy; "
        "mean_tokens: the most accuracy at so many tokens an answer on average; tokens_a_point: so many tokens are "
        "worth a point (a hundredth) of accuracy.",
    )
    value: float = Field(0.995, gt=0, description="The share (0 to 1), or the tokens.")

    @model_validator(mode="after")
    def _share_is_one(self) -> Self:
        if self.goal == "accuracy_share" and self.value > 1:
            raise ValueError("value: a share of the accuracy is at most 1; write e.g. 0.95, or another goal")
        return self
