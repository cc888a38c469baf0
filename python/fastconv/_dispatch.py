"""Picks the build of the kernels that this processor runs fastest. The only file that names a build.

Every kernel is compiled once per instruction set and precision into `fastconv._native.<isa>_<precision>`. At
import the best instruction set that the processor supports is chosen; ``FASTCONV_ISA`` forces one. A build
that is installed but does not load is an error, never a silent step down.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def _load_with_short_spins() -> ModuleType:
    """Load the first module that needs OpenMP's runtime; GCC's reads its environment as it is loaded.

    By itself it lets a thread that waits for its team spin for 300,000 pauses: on some processors 13 ms, in which the
    one it waits for may not get the core it needs. 4,000 outlast the Python between two kernels. A setting of the
    user's stands.
    """
    ours = not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if ours:
        os.environ["GOMP_SPINCOUNT"] = "4000"
    try:
        return import_module("fastconv._native.cpu")
    finally:
        if ours:
            del os.environ["GOMP_SPINCOUNT"]


cpu = _load_with_short_spins()

#: Instruction sets, best first.
ISAS = ("avx512", "avx2", "baseline")

_PRECISIONS = {"f": "f32", "d": "f64"}


def available() -> tuple[str, ...]:
    """Name the builds that are installed and that this processor can run, best first."""
    return tuple(isa for isa in ISAS if cpu.supports(isa) and find_spec(f"fastconv._native.{isa}_f32") is not None)


def _choose() -> str:
    forced = os.environ.get("FASTCONV_ISA")
    runnable = available()
    if not runnable:
        raise ImportError(
            "no build of fastconv's kernels runs here: expected a processor of level x86-64-v2 or any other "
            f"architecture, and an installed fastconv._native; received {platform.machine()}"
        )
    if not forced:
        return runnable[0]
    if forced not in ISAS:
        raise ImportError(f"FASTCONV_ISA: expected one of {', '.join(ISAS)}; received {forced!r}")
    if forced not in runnable:
        raise ImportError(
            f"FASTCONV_ISA: expected a build that runs on this processor, one of {', '.join(runnable)}; "
            f"received {forced!r}"
        )
    return forced


def _choose_or_say() -> str:
    """Choose; on the command line, whose `main` needs this module first, say what is wrong in one line."""
    try:
        return _choose()
    except ImportError as error:
        command = Path(sys.argv[0]).stem == "fastconv" or sys.orig_argv[1:3] == ["-m", "fastconv"]
        if not command:
            raise
        print("fastconv: error:", error, file=sys.stderr)
        raise SystemExit(2) from None


#: The instruction set of the running build.
isa: str = _choose_or_say()


class Kernels(dict[str, ModuleType]):
    """The modules of one operator by dtype character, "f" or "d", each loaded when first asked for."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self._operator = operator

    def __missing__(self, char: str) -> ModuleType:
        module = import_module(f"fastconv._native.{isa}_{_PRECISIONS[char]}.{self._operator}")
        self[char] = module
        return module


_machine = Kernels("machine")


def fma_peak(threads: int = 1, dtype: str = "f") -> float:
    """Measure the multiply-add peak of the running build, in operations a second (best of several)."""
    machine = _machine[dtype]
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        operations = machine.multiply_adds(200_000, threads)
        best = max(best, operations / (time.perf_counter() - start))
    return best


def max_threads() -> int:
    """Ask OpenMP for its own default: OMP_NUM_THREADS, or the processors of the affinity mask."""
    threads: int = cpu.max_threads()
    return threads


def build_info() -> dict[str, str]:
    """Describe the running build: instruction set, vector width, compiler and the platform it runs on."""
    package = import_module(f"fastconv._native.{isa}_f32")
    return {
        "isa": isa,
        "available": ", ".join(available()),
        "vector_bits": str(8 * _machine["f"].vector_bytes()),
        "compiler": package.COMPILER,
        "flags": package.FLAGS,
        "debug": str(package.DEBUG),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
