"""Prometheus metrics: which there are, and how they are counted and shown."""
