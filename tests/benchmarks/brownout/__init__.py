"""Brownout against the best that any mix of tiers could do, in a simulator and before a real gateway.

python tests/benchmarks/brownout simulate SAMPLES               # a minute; SAMPLES: a folder of `alphatier evaluate`
python tests/benchmarks/brownout live SAMPLES                   # ten minutes
"""
