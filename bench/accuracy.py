"""How wrong a result is, in units of the error that its sums may have.

A sum of K products in floating point is off by at most about K roundings of sum|a||b|, and by
about 2 sqrt(K) of them in practice. The bound used here, min(K, 4 + 2 sqrt K) unit roundoffs of
sum|a||b|, is computed for every element from the float64 reference, so that cancellation is not
mistaken for an error and an error does not hide behind large neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers import Array, ArrayLibrary, Problem
from fastconv import reference


def _reference(problem: Problem, pass_name: str, *, magnitudes: bool) -> Array:
    """Compute the pass in float64; of the arrays' magnitudes it is each element's sum|a||b|."""
    arrays: list[Any] = []
    for array in (problem.x, problem.weight, problem.grad_output):
        arrays.append(np.abs(array, dtype=np.float64) if magnitudes else array.astype(np.float64))
    exact: Array = ArrayLibrary(reference).prepare(Problem(problem.shape, *arrays))[pass_name]()
    return exact


class ErrorBound:
    """The exact result of one pass and how far each element may be from it.

    Parameters
    ----------
    problem : Problem
        Shape and arrays.
    pass_name : str
        ``"forward"``, ``"grad_input"`` or ``"grad_weight"``.

    Examples
    --------
    >>> from bench.shapes import ConvShape
    >>> problem = Problem.random(ConvShape(1, 2, 5, 5, 3, 3, 3), "float32")
    >>> bound = ErrorBound(problem, "forward")
    >>> result = reference.conv2d(problem.x, problem.weight)
    >>> 0 < bound.share(result) < 1, bound.share(result + 1) > 1000
    (True, True)
    """

    def __init__(self, problem: Problem, pass_name: str) -> None:
        length = problem.shape.sum_length(pass_name)
        roundings = min(length, 4 + 2 * length**0.5)
        self.exact = _reference(problem, pass_name, magnitudes=False)
        unit_roundoff = np.finfo(problem.x.dtype).eps / 2
        self.allowed = _reference(problem, pass_name, magnitudes=True) * roundings * unit_roundoff

    def share(self, result: Array) -> float:
        """Largest share of its bound that an element's error takes; infinite for a wrong shape.

        For float64 results the reference rounds as well, so that 2 is the limit instead of 1.
        """
        if result.shape != self.exact.shape:
            return float("inf")
        # Where no product is added up (a corner that the stride skips) the error must be zero.
        tiny = np.finfo(np.float64).tiny
        return float(np.max(np.abs(result - self.exact) / (self.allowed + tiny)))
