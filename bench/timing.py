"""Interleaved timing: each contender once a round, and the machine's limits in the same rounds.

A shared or throttling machine changes its speed within seconds. What is measured one after the
other cannot be compared then; what takes turns can. The median of a contender's samples forgets the
rounds that something disturbed.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import numpy as np

SAMPLE_SECONDS = 0.005
"""A sample repeats its call until it lasts about this long, far above the clock's resolution."""

SETTLE_SECONDS = 0.005
"""OpenMP's threads spin for some milliseconds after their work, on the cores the next one needs.

No longer than that: after 30 ms of sleep Linux wakes a team on one core, and its barrier waits for the scheduler.
"""

COPY_BYTES = 64 * 2**20
"""Bytes that a bandwidth probe reads and writes: beyond any cache."""


@dataclass(frozen=True)
class Effort:
    """How long to measure one case.

    Parameters
    ----------
    rounds : int
        Samples of each contender.
    seconds : float
        Time after which a slow contender sits out the remaining rounds.
    statistic : callable
        What becomes of a contender's samples: the median, or ``min`` where neighbours use the same
        cores so much that most samples are theirs.
    """

    rounds: int = 11
    seconds: float = 0.5
    statistic: Callable[[Sequence[float]], float] = median


QUICK = Effort(rounds=3, seconds=0.05)
"""Enough to see that everything runs; too little to believe a figure."""


@dataclass
class _Lane:
    """One contender's turn-taking: its call, how often to repeat it, and the samples so far."""

    call: Callable[[], object]
    repeats: int
    seconds: list[float] = field(default_factory=list)
    spent: float = 0.0

    def sample(self, settle: float) -> None:
        time.sleep(settle)
        start = time.perf_counter()
        self.call()  # uncounted: wakes the thread pool, spreads it over the cores, fetches this contender's data
        begin = time.perf_counter()
        for _ in range(self.repeats):
            self.call()
        end = time.perf_counter()
        self.seconds.append((end - begin) / self.repeats)
        self.spent += end - start


def _lane(call: Callable[[], object], effort: Effort) -> _Lane:
    """Find out how often to repeat the call, by the fastest of three: one that had to wait would say once."""
    elapsed: list[float] = []
    while len(elapsed) < 3:
        start = time.perf_counter()
        call()
        elapsed.append(max(time.perf_counter() - start, 1e-7))
        if sum(elapsed) > effort.seconds:  # hopelessly behind: these samples say enough
            return _Lane(call, 1, elapsed, sum(elapsed))
    return _Lane(call, max(1, math.ceil(SAMPLE_SECONDS / min(elapsed))))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    effort: Effort,
    *,
    threads: int = 1,
    probes: Mapping[str, Callable[[], float]] | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Time contenders in turns.

    Parameters
    ----------
    contenders : mapping of str to callable
        What to time, each called at least once before: compiled, with its buffers allocated.
    effort : Effort
        Rounds and time to spend.
    threads : int
        Threads that each contender uses; with more than one, idle spinning is waited out.
    probes : mapping of str to callable, optional
        Measurements of the machine's limits, each returning a figure once a round.

    Returns
    -------
    seconds : dict of str to float
        Median seconds a call of each contender, or another statistic of ``effort``.
    figures : dict of str to float
        Highest figure of each probe.

    Examples
    --------
    >>> seconds, figures = interleave({"nothing": lambda: None}, QUICK, probes={"one": lambda: 1.0})
    >>> list(seconds), figures
    (['nothing'], {'one': 1.0})
    """
    settle = SETTLE_SECONDS if threads > 1 else 0.0
    figures: dict[str, list[float]] = {name: [] for name in probes or {}}
    lanes = {name: _lane(call, effort) for name, call in contenders.items()}
    order = random.Random(0)  # nobody always follows the one whose threads spin longest
    with _without_garbage_collection():
        for _ in range(effort.rounds):
            for name, probe in (probes or {}).items():
                time.sleep(settle)
                figures[name].append(probe())
            for lane in order.sample(list(lanes.values()), len(lanes)):
                if not lane.seconds or lane.spent < effort.seconds:
                    lane.sample(settle)
    return (
        {name: effort.statistic(lane.seconds) for name, lane in lanes.items()},
        {name: max(values) for name, values in figures.items()},
    )


def memory_bandwidth(threads: int) -> Callable[[], float]:
    """Make a probe of the memory's speed: bytes a second read and written by NumPy copies.

    Parameters
    ----------
    threads : int
        Threads that copy, each its share.

    Examples
    --------
    >>> memory_bandwidth(1)() > 0
    True
    """
    size = COPY_BYTES // 2 // threads
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def probe() -> float:
        start = time.perf_counter()
        for _ in pool.map(lambda pair: np.copyto(*pair), pairs):
            pass
        return 2 * size * threads / (time.perf_counter() - start)

    return probe
