"""`python tests/benchmarks/brownout`: makes `benchmarks.brownout` importable, then runs its command."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from benchmarks.brownout.command import main

    main()
