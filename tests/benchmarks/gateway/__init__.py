"""The gateway's speed, side by side with other routers. `python tests/benchmarks/gateway --help`."""
