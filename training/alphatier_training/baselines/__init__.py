"""Baselines that are trained: what RL with a length penalty has to beat."""
