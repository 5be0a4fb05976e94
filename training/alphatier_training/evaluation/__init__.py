"""Responses, figures and comparisons of tiers."""
