"""Train a family of reasoning models, one length penalty a tier, and measure it.

What: problems, the paper's reward (arXiv 2502.04463), TRL's RLOO trainer, evaluation, family.json, a report.
What not: no serving (`alphatier_server`), no file format of its own (`alphatier_models` writes family.json).
Importing this package loads neither torch nor trl.

    alphatier train training/recipes/tiny.yaml
"""
