"""Clients of a soak: they send what `plan` says, behave as badly as it says, and write down what they saw.

    python -m benchmarks.soak.client --url http://127.0.0.1:8000 --seed 0 --first 0 --count 1000 --out seen.jsonl

`crowd` asks, `connection` speaks HTTP, `verdict` judges answers, for which `answers` reads each API's.
"""
