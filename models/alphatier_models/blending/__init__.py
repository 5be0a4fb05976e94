"""Tiers that nobody trained: blends of the weights of trained ones.

    blend = base + sum of weight * (tier - base)

Precedents: task arithmetic (arXiv 2212.04089), model interpolation (2510.10977), one scaled adapter as a dial of
the length of thought (CoT-Valve, 2502.09601). `parts` names a blend, `adapters` and `checkpoints` compute its
weights, `making` puts it into a family. Only `adapters`, `checkpoints` and `tensors` load torch.
"""
