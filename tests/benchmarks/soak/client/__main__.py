"""`python -m benchmarks.soak.client`: asks a range of requests.

One JSON line a request goes to `--out` (`Seen`), the number of finished requests to standard output.
"""

import argparse
import sys
from pathlib import Path

import uvloop

from benchmarks.soak.client.crowd import Crowd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("--header", action="append", default=[], help="NAME: VALUE, sent with every request")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.count * options.step, options.step)
    extra = "".join(f"{line}\r\n" for line in options.header).encode()
    crowd = Crowd(options.url, options.seed, numbers, options.out, options.patience, extra)
    uvloop.run(crowd.run(options.users))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
