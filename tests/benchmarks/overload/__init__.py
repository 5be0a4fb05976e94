"""The gateway in front of an engine of known speed, offered once, twice and four times what that can do.

python tests/benchmarks/overload
"""
