"""Every row of the table against the oracle: operator x dtype x (real numbers, whole numbers).

It runs on the session's build and one thread: test_builds runs it on the other builds, test_threads shows that
the number of threads changes no bit of any row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import check_backward, check_forward, check_whole_numbers
from operators import OPERATORS, ROWS, Row

from fastconv import ops, reference

pytestmark = pytest.mark.usefixtures("_one_thread")
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# A fused activation's gradient is held to the slope below, and its parts to their own rows here.
WITH_BACKWARD = [row for row in ROWS if row.recipe.backward]
PLAIN = [row for row in WITH_BACKWARD if not row.options.get("activation")]
SMALL = [row for row in WITH_BACKWARD if sum(np.prod(shape) for shape in row.shapes) < 20_000]


def test_table_has_every_operator() -> None:
    """A row for every entry, an entry for every function of the oracle, and no row twice."""
    assert {row.operator for row in ROWS} == set(OPERATORS)
    assert {n for n in reference.__all__ if not n.endswith("_backward")} == set(OPERATORS)
    assert set(reference.__all__) <= set(ops.__all__)
    assert len({str(row) for row in ROWS}) == len(ROWS)


@both_dtypes
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_forward_is_within_its_bound(row: Row, dtype: Any) -> None:
    check_forward(row, dtype)


@both_dtypes
@pytest.mark.parametrize("row", PLAIN, ids=str)
def test_backward_is_within_its_bound(row: Row, dtype: Any) -> None:
    check_backward(row, dtype)


@both_dtypes
@pytest.mark.parametrize("row", [row for row in ROWS if row.integral], ids=str)
def test_whole_numbers_are_exact(row: Row, dtype: Any) -> None:
    check_whole_numbers(row, dtype)


@pytest.mark.parametrize("row", [row for row in PLAIN if row.integral], ids=str)
def test_backward_is_the_adjoint(row: Row) -> None:
    """Hold ``<f(x), g> = <x, f'(g)>``, without the oracle: exactly, as the numbers are whole."""
    arrays = row.draw(np.float64, "integers")[:2]  # not the bias, which is no factor
    output = row.forward(ops, arrays)[0]
    grad = row.draw_like(output, "integers")
    product = (output * grad).sum()
    for array, gradient in zip(arrays, row.backward(ops, grad, arrays, output), strict=True):
        assert (array * gradient).sum() == product


@pytest.mark.parametrize("row", SMALL, ids=str)
def test_gradient_is_the_slope(row: Row) -> None:
    """Central differences in float64: along one direction of all elements, and at chosen ones."""
    step = 1e-6
    arrays = row.draw(np.float64)
    output = row.forward(ops, arrays)[0]
    grad = row.draw_like(output)
    gradients = row.backward(ops, grad, arrays, output)
    rng = np.random.default_rng(0)
    for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        assert gradient.shape == array.shape
        directions = [rng.standard_normal(array.shape)]
        for at in rng.integers(0, max(array.size, 1), min(array.size, 12)):
            directions.append(np.zeros(array.shape))
            directions[-1].flat[at] = 1
        for direction in directions:
            above, below = (
                row.forward(ops, (*arrays[:i], np.asarray(array + h * direction), *arrays[i + 1 :]))[0]
                for h in (step, -step)
            )
            slope = ((above - below) * grad).sum() / (2 * step)
            np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-3, atol=1e-5)
