"""An engine that breaks as each request tells it to: the process behind the gateway in a soak.

    python -m benchmarks.soak.engine --port 9001 --name engine-1

`job` and the files named after APIs make sound answers, `faults` spoils them, `connection` speaks HTTP.
"""
