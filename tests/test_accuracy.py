"""Numbers at the edges: every magnitude, NaN, infinity, subnormals; and sums that must not drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import AVERAGE_POOLINGS, CONVOLUTIONS, MAX_POOLINGS, MEASURED, Row

import fastconv
from fastconv import ops, reference

pytestmark = pytest.mark.usefixtures("_one_thread")

EXACT_LONG_DOUBLE = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
needs_long_double = pytest.mark.skipif(not EXACT_LONG_DOUBLE, reason="long double is no wider than double here")


def every_magnitude(dtype: Any) -> np.ndarray:
    """Sample all bit patterns, then densely where the functions bend; finite, of both signs."""
    bits = np.uint32 if dtype == np.float32 else np.uint64
    top = np.iinfo(bits).max
    patterns = np.arange(0, top, top // 1_500_000, dtype=bits).view(dtype)
    x = np.concatenate([patterns[np.isfinite(patterns)], np.linspace(-120, 120, 400_001, dtype=dtype)])
    if dtype == np.float64:
        x = np.concatenate([x, np.linspace(-760, 760, 200_001)])
    return np.concatenate([x, -x])


def exact_sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


WIDER = {np.float32: np.float64, np.float64: np.longdouble}


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=needs_long_double)])
@pytest.mark.parametrize(("function", "exact"), [(ops.sigmoid, exact_sigmoid), (ops.tanh, np.tanh)])
def test_within_four_ulp(function: Any, exact: Any, dtype: Any) -> None:
    x = every_magnitude(dtype)
    y = function(x)
    expected = exact(x.astype(WIDER[dtype]))
    ulp = np.spacing(np.abs(expected).astype(dtype)).astype(WIDER[dtype])
    error = np.abs(y - expected) / ulp
    worst = error.argmax()
    assert error[worst] <= 4, f"{error[worst]:.2f} ulp at x = {x[worst]!r}"
    assert x.size > 3_000_000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_at_their_limits(dtype: Any) -> None:
    inf, nan, tiny = np.inf, np.nan, np.finfo(dtype).smallest_subnormal
    table = [
        (ops.sigmoid, [-inf, inf, nan, 0, tiny, -1e4, 1e4], [0, 1, nan, 0.5, 0.5, 0, 1]),
        (ops.tanh, [-inf, inf, nan, 0, tiny, -tiny, -1e4], [-1, 1, nan, 0, tiny, -tiny, -1]),
        (ops.relu, [-inf, inf, nan, 0, tiny, -tiny, -1], [0, inf, nan, 0, tiny, 0, 0]),
        (ops.leaky_relu, [-inf, inf, nan, 0, tiny, -100, 2], [-inf, inf, nan, 0, tiny, -1, 2]),
    ]
    for function, x, expected in table:
        for length in (len(x), 100):  # in a tail, and in whole vectors
            y = function(np.resize(np.array(x, dtype), length))
            np.testing.assert_array_equal(y, np.resize(np.array(expected, dtype), length))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backward", [ops.relu_backward, ops.leaky_relu_backward])
def test_gradient_of_nan(backward: Any, dtype: Any) -> None:
    """A NaN in the gradient stays where it is passed on; one in the output passes the gradient or is NaN."""
    grad = np.resize(np.array([np.nan, 1, 1, np.nan], dtype), 100)
    output = np.resize(np.array([1, 1, np.nan, 2], dtype), 100)
    result = backward(grad, output)
    assert np.isnan(result[[0, 3, 96, 99]]).all()
    assert (result[[1, 97]] == 1).all()
    assert not (result[[2, 98]] == 0).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 33, 1000])
def test_softmax_is_accurate(classes: int, dtype: Any) -> None:
    """Each probability to a few units in the last place, from 1 down to the subnormals."""
    x = (np.random.default_rng(classes).standard_normal((50, classes)) * 30).astype(dtype)
    y = ops.softmax(x)
    wide = x.astype(WIDER[dtype])
    expected = reference.softmax(wide)
    below = wide.max(axis=1, keepdims=True) - wide
    # exp of a rounded difference, and the sum of all: K of them
    units = 24 + 2 * below + min(classes, 4 + 2 * classes**0.5)
    info = np.finfo(dtype)
    extra = 1 if WIDER[dtype] != np.float64 and not EXACT_LONG_DOUBLE else 0.5
    assert (np.abs(y - expected) <= extra * info.eps * units * expected + 2 * info.smallest_subnormal).all()
    np.testing.assert_allclose(y.sum(axis=1, dtype=np.float64), 1, rtol=info.eps * (4 + classes**0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_extremes(dtype: Any) -> None:
    """Neither overflow nor 0/0, up to the largest numbers; -inf is a class that cannot be."""
    largest = np.finfo(dtype).max
    x = np.array([[largest, largest / 2, -largest], [-largest, -largest, -largest], [-np.inf, 0, 0]], dtype)
    expected = np.array([[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5]], dtype)
    np.testing.assert_allclose(ops.softmax(x), expected, rtol=4 * np.finfo(dtype).eps)
    loss, grad = ops.softmax_cross_entropy(x[:1] / 4, np.array([0]))
    assert loss == 0
    np.testing.assert_array_equal(grad, [[0, 0, 0]])
    poisoned = ops.softmax(np.array([[0, np.nan, 1], [0, 1, 2]], dtype))
    np.testing.assert_array_equal(np.isnan(poisoned), [[True] * 3, [False] * 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_keeps_its_digits_where_it_is_small(dtype: Any) -> None:
    """A sure and right answer has a small loss, not a loss of zero, and its gradient is as small."""
    margin = 12
    logits = np.array([[margin, 0]], dtype)
    loss, grad = ops.softmax_cross_entropy(logits, np.array([0]))
    e = np.exp(-float(margin))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, np.log1p(e), rtol=4 * eps, atol=2 * eps)
    np.testing.assert_allclose(grad, [[-e / (1 + e), e / (1 + e)]], rtol=4 * eps, atol=2 * eps)


# --- NaN and infinity reach exactly the outputs whose window holds them ---------------------------


def same_poison(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(got), infinite)
    np.testing.assert_array_equal(got[infinite], expected[infinite])


POISONED = [
    row
    for row in (*MEASURED, *CONVOLUTIONS[len(MEASURED) :: 2])
    if row.shapes[0][0] and "activation" not in row.options
]


def poison(array: np.ndarray, value: float, seed: int) -> np.ndarray:
    """Put the value into one place of the array."""
    poisoned = array.copy()
    poisoned.flat[np.random.default_rng(seed).integers(array.size)] = value
    return poisoned


@pytest.mark.parametrize("row", POISONED, ids=str)
def test_poison_stays_in_its_windows(row: Row) -> None:
    """In an image: its outputs, and the taps of grad-weight that read it."""
    x, *rest = row.draw(np.float32)
    output = row.forward(reference, (x, *rest))[0]
    grad = row.draw_like(output)
    for seed, value in enumerate((np.nan, np.inf, -np.inf)):
        arrays = (poison(x, value, seed), *rest)
        with np.errstate(invalid="ignore"):
            expected = row.forward(reference, arrays)[0]
            expected_weight = row.backward(reference, grad, arrays, output)[1]
        same_poison(row.forward(ops, arrays)[0], expected)
        got = row.backward(ops, grad, arrays, output)
        same_poison(got[1], expected_weight)
        assert np.isfinite(got[0]).all()


@pytest.mark.parametrize("row", POISONED, ids=str)
def test_poison_of_a_gradient(row: Row) -> None:
    """In grad-output: the pixels of its window, and the filter and bias of its channel alone."""
    arrays = row.draw(np.float32)
    output = row.forward(reference, arrays)[0]
    for seed in range(2):
        grad = poison(row.draw_like(output), np.nan, seed)
        expected = row.backward(reference, grad, arrays, output)
        got = row.backward(ops, grad, arrays, output)
        same_poison(got[0], expected[0])
        channels = np.isnan(grad).any(axis=(0, 2, 3))
        np.testing.assert_array_equal(np.isnan(got[1]).any(axis=(1, 2, 3)), channels)
        if len(got) == 3:
            np.testing.assert_array_equal(np.isnan(got[2]), channels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [*MAX_POOLINGS, *AVERAGE_POOLINGS], ids=str)
def test_poison_in_pooling(row: Row, value: float) -> None:
    (x,) = row.draw(np.float32)
    if not x.size:
        x = np.ones((1, 3, 8, 8), np.float32)
    for seed in range(3):
        poisoned = (poison(poison(x, value, seed), value, seed + 10),)
        expected, got = row.forward(reference, poisoned), row.forward(ops, poisoned)
        same_poison(got[0], expected[0])
        if len(expected) == 2:
            np.testing.assert_array_equal(got[1], expected[1])
        if row.operator == "max_pool2d":
            grad = np.ones_like(expected[0])
            np.testing.assert_array_equal(
                row.backward(ops, grad, poisoned, grad)[0], row.backward(reference, grad, poisoned, grad)[0]
            )


@pytest.mark.parametrize("row", [row for row in MAX_POOLINGS if row.shapes[0][0]], ids=str)
def test_windows_of_minus_infinity(row: Row) -> None:
    """Padding is no pixel: where all is -inf, so is the maximum, and its index lies in the image."""
    x = np.full(row.shapes[0], -np.inf, np.float32)
    for got, expected in zip(row.forward(ops, (x,)), row.forward(reference, (x,)), strict=True):
        np.testing.assert_array_equal(got, expected)
    grad = np.ones_like(row.forward(ops, (x,))[0])
    np.testing.assert_array_equal(row.backward(ops, grad, (x,), x)[0], row.backward(reference, grad, (x,), x)[0])


def test_window_without_a_pixel() -> None:
    """Dilation can place a window around the image: its maximum is -inf, its gradient goes nowhere."""
    x = np.ones((1, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(ops.max_pool2d(x, 2, 1, 1, 2), [[[[-np.inf]]]])
    np.testing.assert_array_equal(ops.max_pool2d_backward(x, x, 2, 1, 1, 2), [[[[0]]]])


# --- subnormals and sums -------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tiny"), [(np.float32, 1e-40), (np.float64, 1e-310)])
def test_subnormals_are_kept(dtype: Any, tiny: float) -> None:
    """No flush to zero, in any thread of the team."""
    x = np.full((8, 16, 32, 32), tiny, dtype)
    weight = np.eye(16, dtype=dtype).reshape(16, 16, 1, 1)
    with fastconv.num_threads(4):
        np.testing.assert_array_equal(ops.conv2d(x, weight), x)
        np.testing.assert_array_equal(ops.max_pool2d(x, 2), x[:, :, ::2, ::2])
        np.testing.assert_array_equal(ops.relu(x), x)
        np.testing.assert_array_equal(
            ops.dense(x.reshape(8, -1)[:, :64], np.eye(64, dtype=dtype)), x.reshape(8, -1)[:, :64]
        )
    assert (x * dtype(1) == x).all()


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


LONG_SUMS = {
    "conv2d": lambda x: ops.conv2d(x.reshape(1, -1, 4, 4), ones(1, x.size // 16, 4, 4)),
    "conv2d grad_x": lambda x: ops.conv2d_backward(x.reshape(1, -1, 1, 1), ones(1, 1, 1, 1), ones(x.size, 1, 1, 1))[0],
    "conv2d grad_weight": lambda x: ops.conv2d_backward(
        x.reshape(4, 1, 64, -1), ones(4, 1, 64, x.size // 256), ones(1, 1, 1, 1)
    )[1],
    "conv2d grad_bias": lambda x: ops.conv2d_backward(
        x.reshape(4, 1, 64, -1), ones(4, 1, 64, x.size // 256), ones(1, 1, 1, 1)
    )[2],
    "dense": lambda x: ops.dense(x.reshape(1, -1), ones(1, x.size)),
    "dense grad_x": lambda x: ops.dense_backward(x.reshape(1, -1), ones(1, 1), ones(x.size, 1))[0],
    "dense grad_weight": lambda x: ops.dense_backward(x.reshape(-1, 1), ones(x.size, 1), ones(1, 1))[1],
    "dense grad_bias": lambda x: ops.dense_backward(x.reshape(-1, 1), ones(x.size, 1), ones(1, 1))[2],
    "global_avg_pool2d": lambda x: x.size * ops.global_avg_pool2d(x.reshape(1, 1, 64, -1)),
    "avg_pool2d": lambda x: x.size * ops.avg_pool2d(x.reshape(1, 1, 64, -1), (64, x.size // 64)),
}


@pytest.mark.parametrize("length", [2**14, 2**20])
@pytest.mark.parametrize("name", LONG_SUMS)
def test_long_sums_do_not_drift(name: str, length: int) -> None:
    """A million numbers of one sign; or thousands of equal ones, whose roundings all go one way."""
    x = np.random.default_rng(0).random(length) if length == 2**20 else np.full(length, 0.1)
    x = x.astype(np.float32)
    bound = (4 + 2 * length**0.5) * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(LONG_SUMS[name](x).item(), x.sum(dtype=np.float64), rtol=bound)
