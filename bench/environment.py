"""The same conditions for everyone: the thread count before any library loads, and who took part.

NumPy's BLAS and JAX read their number of threads from the environment when they load, once. So a
benchmark that is asked for another number starts itself again with the right environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from fastconv import _dispatch

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
"""Folder of JSON files and plots; git ignores it."""

STATISTICS = Path("/proc/stat")

QUIET_SHARE = 0.05
"""Share of the processors' time that others may take before figures become doubtful."""

PACKAGES = ("fastconv", "numpy", "torch", "jax", "onnxruntime")
"""Distributions whose versions a report names."""


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that give each library ``threads`` threads.

    Examples
    --------
    >>> sorted(thread_variables(2))
    ['MKL_NUM_THREADS', 'NPROC', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS']
    """
    # NPROC is what XLA takes for the number of processors. It has no other switch that holds.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    return dict.fromkeys(names, str(threads))


def relaunch_with_threads(threads: int) -> None:
    """Return if the environment gives each library ``threads`` threads, else start again."""
    wanted = thread_variables(threads)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        status = subprocess.call(sys.orig_argv, env={**os.environ, **wanted})
        raise SystemExit(status)


def versions() -> dict[str, str]:
    """Version of each installed package of :data:`PACKAGES`, and of Python.

    Examples
    --------
    >>> "numpy" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def processor() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(makers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Make what can be made, and say why the rest is absent.

    Examples
    --------
    >>> installed({"five": lambda: 5, "peer": lambda: int(__import__("missing_peer"))})
    ({'five': 5}, {'peer': "No module named 'missing_peer'"})
    """
    present: dict[str, T] = {}
    absent: dict[str, str] = {}
    for name, make in makers.items():
        try:
            present[name] = make()
        except ImportError as error:
            absent[name] = str(error)
    return present, absent


class Neighbours:
    """How much of the processors' time other processes take, from creation on. Linux alone tells.

    With two threads a single busy neighbour makes OpenMP's threads wait for a core, milliseconds at
    a time, and a benchmark then times the neighbour. A peak measured in bursts does not show it.

    Examples
    --------
    >>> share = Neighbours().share()
    >>> share is None or share >= 0
    True
    """

    def __init__(self) -> None:
        self._start = self._clocks()

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        """Return seconds: of the clock, of all processes, of this one."""
        busy = 0.0
        if STATISTICS.exists():
            user, nice, system, _idle, _wait, *rest = STATISTICS.read_text().split("\n")[0].split()[1:]
            ticks = sum(map(int, (user, nice, system, *rest[:3])))  # and interrupts and stolen time
            busy = ticks / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, time.process_time()

    def share(self) -> float | None:
        """Return the others' share of all processors' time so far; None where it is not known."""
        if not STATISTICS.exists():
            return None
        clock, busy, own = (end - start for end, start in zip(self._clocks(), self._start, strict=True))
        return max(0.0, busy - own) / (clock * (os.cpu_count() or 1))

    def warn(self) -> None:
        """Print the share, and what to do if it is too large to believe the figures."""
        share = self.share()
        if share is not None:
            print(f"other processes took {100 * share:.0f}% of the processors' time")
            if share > QUIET_SHARE:
                print("too much to believe the figures: repeat the run on a quiet machine")


def describe(threads: int) -> dict[str, object]:
    """Collect what a reader needs to judge figures: date, machine, threads, build, versions."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "system": platform.platform(),
        "threads": threads,
        "build": _dispatch.isa,
        "versions": versions(),
    }


def print_conditions(conditions: Mapping[str, object], present: Iterable[str], absent: Mapping[str, str]) -> None:
    """Print what :func:`describe` found, who takes part, and who does not and why."""
    for name, value in conditions.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        print(f"{name + ':':11}{value}")
    print(f"{'takes part:':11} {', '.join(present)}")
    for name, reason in absent.items():
        print(f"{'absent:':11}{name} ({reason})")
    print()
