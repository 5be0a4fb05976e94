"""How good blended tiers are, measured: curves of blends against the front of trained tiers."""
