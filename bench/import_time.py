"""``python -m bench.import_time``: what ``import fastconv`` costs beyond NumPy's own import.

Each sample is a fresh interpreter that imports NumPy first and then times fastconv alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

PROGRAM = """
from time import perf_counter
start = perf_counter()
import numpy
middle = perf_counter()
import fastconv
print(middle - start, perf_counter() - middle)
"""

TARGET_SECONDS = 0.1


def sample() -> tuple[float, float]:
    """Seconds that a fresh interpreter takes to import NumPy, and fastconv after it."""
    finished = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    numpy_seconds, own_seconds = map(float, finished.stdout.split())
    return numpy_seconds, own_seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = argparse.ArgumentParser(prog="python -m bench.import_time", description=__doc__)
    command.add_argument("--rounds", type=int, default=11, help="fresh interpreters (11)")
    options = command.parse_args(arguments)
    sample()  # uncounted: brings the files into the system's cache
    samples = [sample() for _ in range(options.rounds)]
    numpy_seconds, own_seconds = (median(column) for column in zip(*samples, strict=True))
    print(f"import numpy:    {1e3 * numpy_seconds:6.1f} ms")
    print(f"import fastconv: {1e3 * own_seconds:6.1f} ms more (target {1e3 * TARGET_SECONDS:.0f})")


if __name__ == "__main__":
    main()
