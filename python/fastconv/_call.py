"""What stands around the kernel in every public call: its plan, the array of its result, the call itself.

`Plans` remembers what the checks of an operator settled, by the dtype and shape of each array and the kind and value
of each other argument: a call like an earlier one finds its plan and checks nothing again.

`empty` makes the array of a result. A fresh large array costs a page fault for every 4 KiB that is written, which can
be many times the arithmetic. A training step therefore runs inside ``with arena:``: every operator takes its result
from one block, and the next step takes the same bytes again.

A `Tape` records the kernels that run while it is open, so that they can be made again without the Python between
them: `fastconv.layers.replay`.

All of it is in C (``src/fastconv/call.pyx``): in Python it would cost more than a small kernel.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._native import call
from fastconv._native.call import (
    Arena,
    Plans,
    Tape,
    are_labels,
    begin_turns,
    end_turns,
    fits,
    forget,
    generation,
    is_open,
    may_overwrite,
    next_turn,
    not_a_kernel,
    results,
    run,
)

__all__ = [
    "Arena",
    "Plans",
    "Tape",
    "are_labels",
    "begin_turns",
    "empty",
    "end_turns",
    "fits",
    "forget",
    "generation",
    "is_open",
    "lasting",
    "may_overwrite",
    "next_turn",
    "not_a_kernel",
    "nothing",
    "results",
    "run",
]

CACHE_LINE = 64

empty: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]] = call.empty


def lasting(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return that many zeros, from the beginning of a cache line on: an array that outlives a step."""
    block = np.zeros(size * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + size * dtype.itemsize].view(dtype)


def nothing(*arguments: object) -> None:
    """Stand for a kernel where the result has no elements."""
