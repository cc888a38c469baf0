"""Times calls against each other on a machine that may be busy: in turns, by the median."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

MIN_ROUNDS = 3

SETTLE_SECONDS = 0.03
"""OpenMP's threads spin for milliseconds after their work and OpenBLAS's for 20, on the next call's cores."""


def median_seconds(calls: Mapping[str, Callable[[], object]], seconds: float) -> tuple[dict[str, float], int]:
    """Call each in turn for about that long; return each one's median and the rounds made.

    Examples
    --------
    >>> medians, rounds = median_seconds({"sum": lambda: sum(range(9))}, seconds=0.0)
    >>> list(medians), rounds
    (['sum'], 3)
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < MIN_ROUNDS or time.perf_counter() < deadline:
        for name, call in calls.items():
            time.sleep(SETTLE_SECONDS)
            call()  # not counted: wakes the threads and brings this call's data into the cache
            start = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: median(times) for name, times in samples.items()}, rounds
