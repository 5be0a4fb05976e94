"""From measured tiers to the ones that a family offers."""
