"""How exactly an operator must answer: bounds on each output's error, in units of half an epsilon.

Almost every operator is a sum of products, and both parts of the bound ``min(K, 4 + 2 sqrt(K)) * sum |a||b|`` come
from the oracle itself: ``sum |a||b|`` is its answer for the absolute values of the arrays, and the length K of the
sum is its answer for ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]
Options = Mapping[str, Any]
Call = Callable[[Arrays, Options], Arrays]
Bound = Callable[[Call, Arrays, Options], Arrays]


def exact(call: Call, arrays: Arrays, options: Options) -> Arrays:
    """No rounding at all."""
    return tuple(np.zeros_like(y) for y in call(arrays, options))


def summed(call: Call, arrays: Arrays, options: Options) -> Arrays:
    """Sums of K products."""
    magnitudes = call(tuple(np.abs(a) for a in arrays), options)
    lengths = call(tuple(np.ones_like(a) for a in arrays), options)
    return tuple(np.minimum(k, 4 + 2 * np.sqrt(k)) * m for k, m in zip(lengths, magnitudes, strict=True))


def averaged(call: Call, arrays: Arrays, options: Options) -> Arrays:
    """Sums over a window of K taps, then two roundings for the division."""
    taps = np.prod(np.broadcast_to(options.get("kernel_size", arrays[0].shape[2:]), 2))
    units = min(taps + 2, 4 + 2 * np.sqrt(taps))
    return tuple(units * m for m in call(tuple(np.abs(a) for a in arrays), options))


def relative(units: float) -> Bound:
    """Units of the answer itself; 8 are 4 units in the last place."""
    return lambda call, arrays, options: tuple(units * np.abs(y) for y in call(arrays, options))


def magnified(units: float) -> Bound:
    """Units of the answer and of the first array: where the formula may cancel."""
    return lambda call, arrays, options: tuple(units * (np.abs(y) + np.abs(arrays[0])) for y in call(arrays, options))


def cancelling(units: float) -> Bound:
    """Units of the answer and of the largest answer: for differences of numbers like it."""
    return lambda call, arrays, options: tuple(
        units * (np.abs(y) + np.abs(y).max(initial=0)) for y in call(arrays, options)
    )


def updated(call: Call, arrays: Arrays, options: Options) -> Arrays:
    """Units of all that an optimizer's step adds, whatever its sign."""
    upward = {**options, "learning_rate": -options["learning_rate"]}
    return tuple(16 * m for m in call(tuple(np.abs(a) for a in arrays), upward))
