"""The gateway in front of an engine of known speed, offered once, twice and four times what that can do.

python tests/benchmarks/overload                        # a minute and a half
python tests/benchmarks/overload --warm 1 --seconds 4   # half a minute
"""
