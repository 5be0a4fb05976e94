"""A family of measured rows: as one page, and as a choice of tiers."""
