"""Bad calls get the exception and the message of the table in bad_calls, and write nothing.

All messages read "name: expected ...; received ...".
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from bad_calls import GOOD, TABLE, array, good_calls
from checks import run_python
from operators import OPERATORS

from fastconv import ops


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) and a.dtype != object else True


@pytest.mark.parametrize(
    ("operator", "argument", "value", "error", "message"),
    TABLE,
    ids=[f"{i}-{row[0]}-{row[1]}" for i, row in enumerate(TABLE)],
)
def test_bad_call(operator: str, argument: str, value: Any, error: type[Exception], message: str) -> None:
    call = good_calls()[operator]
    before = good_calls()[operator]
    function = getattr(ops, operator)
    function(**good_calls()[operator])  # only the one argument is wrong
    call[argument] = before[argument] = value
    with pytest.raises(error) as caught:
        function(**call)
    assert type(caught.value) is error
    text = str(caught.value)
    assert re.search(message, text, re.DOTALL), text
    assert re.search(r"^[\w ()\[\],]+: expected .+; received .+", text, re.DOTALL), text
    for name in call:
        assert same(call[name], before[name]), f"{name} was written to"


def test_table_has_every_function() -> None:
    """Guard: a wrong call of every function, of each of the two kinds where it can have both."""
    assert set(GOOD) == set(ops.__all__)
    assert {n for n in ops.__all__ if not n.endswith("_backward")} == set(OPERATORS)
    assert {row[0] for row in TABLE if row[3] is TypeError} == set(GOOD)
    assert {row[0] for row in TABLE if row[3] is ValueError} == set(GOOD)


# --- calls that are wrong in two places, or in what they share ------------------------------------


def overlapping(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give an array of that shape in memory that `a` lies in too."""
    return a.reshape(-1)[: int(np.prod(shape))].reshape(shape)


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_out_over_an_input(name: str) -> None:
    block = array(2 * 6 * 3 * 4 * 4)
    for operator, shape in (("conv2d", (2, 6, 3, 4)), ("dense", (3, 4))):
        call = good_calls()[operator]
        call[name] = overlapping(block, call[name].shape)
        call["out"] = overlapping(block, shape)
        with pytest.raises(ValueError, match=r"out: expected memory of its own; received"):
            getattr(ops, operator)(**call)
    assert (block == 1).all()


@pytest.mark.parametrize("operator", ["conv2d_backward", "dense_backward"])
def test_outs_over_each_other(operator: str) -> None:
    call = good_calls()[operator]
    shapes = [out.shape for out in call["out"]]
    block = array(1000)
    for pair in ((0, 1), (0, 2), (1, 2)):
        outs = [array(*shape) if i not in pair else overlapping(block, shape) for i, shape in enumerate(shapes)]
        with pytest.raises(ValueError, match=r"out: expected memory of its own; received"):
            getattr(ops, operator)(**{**call, "out": tuple(outs)})
    call["out"] = (None, None, overlapping(call["grad_output"], shapes[2]))
    with pytest.raises(ValueError, match=r"out: expected memory of its own; received"):
        getattr(ops, operator)(**call)


@pytest.mark.parametrize("operator", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax"])
def test_out_shifted_over_its_input(operator: str) -> None:
    """In place is the input itself, not a part of it."""
    block = array(20)
    with pytest.raises(ValueError, match=r"out: expected memory of its own; received"):
        getattr(ops, operator)(block[:15].reshape(3, 5), out=block[5:].reshape(3, 5))
    assert (block == 1).all()


def test_kind_comes_before_value() -> None:
    """Every TypeError before any ValueError, whatever the order of the arguments."""
    x, weight = array(2, 4, 5, 6), array(6, 4, 9, 9)  # the kernel is too large
    for wrong in ({"stride": 1.5}, {"activation": 3}, {"groups": 1.0}, {"bias": [1]}, {"dilation": "1"}):
        with pytest.raises(TypeError):
            ops.conv2d(x, weight, **wrong)
    with pytest.raises(TypeError):
        ops.conv2d(array(4, 5), [1.0])
    with pytest.raises(TypeError):
        ops.max_pool2d(x, 0, ceil_mode="yes")
    with pytest.raises(TypeError):
        ops.softmax_cross_entropy(array(3), [0, 1, 2])


def test_equal_keys_are_not_equal_kinds() -> None:
    """``(1.0, True)`` equals ``(1, 1)``, which a cache of sizes must not believe."""
    x, weight = array(1, 1, 5, 5), array(1, 1, 3, 3)
    for name in ("stride", "dilation", "padding"):
        ops.conv2d(x, weight, **{name: (1, 1)})
        for value in ((1.0, 1), (1, True), (np.float64(1), 1)):
            with pytest.raises(TypeError, match=r"an int; received"):
                ops.conv2d(x, weight, **{name: value})


HOSTILE = {
    "huge sizes": """
x = np.ones((1, 1, 7, 7), np.float32)
w = np.ones((1, 1, 1, 1), np.float32)
for n in (2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, 2**70):
    for call in (
        lambda: fc.conv2d(x, w, stride=n),
        lambda: fc.conv2d(x, w, padding=n),
        lambda: fc.conv2d(x, w, stride=n, padding=n),
        lambda: fc.conv2d(x, w, dilation=n),
        lambda: fc.conv2d(x, w, groups=n),
        lambda: fc.conv2d(x, np.ones((1, 1, 2, 2), np.float32), dilation=n, padding=n),
        lambda: fc.conv2d_backward(x, x, w, stride=n),
        lambda: fc.conv2d_backward(x, x, w, padding=n),
        lambda: fc.im2col(x, 1, n, n),
        lambda: fc.im2col(x, n, 1, n),
        lambda: fc.im2col(x, 2, n, n, n),
        lambda: fc.col2im(x[0], n, n),
        lambda: fc.col2im(x[0], n, 1, n),
        lambda: fc.max_pool2d(x, n, 1, n // 2),
        lambda: fc.max_pool2d(x, n, n, n // 2),
        lambda: fc.max_pool2d(x, 2, n, 1, n),
        lambda: fc.max_pool2d(x, 1, n, 0, n, ceil_mode=True),
        lambda: fc.avg_pool2d(x, n, n, n // 2),
        lambda: fc.avg_pool2d(x, 1, divisor_override=n),
        lambda: fc.avg_pool2d_backward(x[:, :, :1, :1], (1, 1, n, n), n),
        lambda: fc.global_avg_pool2d_backward(x[:, :, :1, :1], (1, 1, n, n)),
        lambda: fc.softmax(x, axis=n),
        lambda: fc.num_threads(n).__enter__(),
    ):
        try:
            call()
        except (ValueError, MemoryError):
            refused += 1
""",
    "empty arrays": """
for shape in ((0, 1, 3, 3), (1, 0, 3, 3), (1, 1, 0, 3), (1, 1, 3, 0), (0, 0, 0, 0)):
    x = np.ones(shape, np.float32)
    for call in (
        lambda: fc.conv2d(x, np.ones((1, 1, 1, 1), np.float32)),
        lambda: fc.conv2d(np.ones((1, 1, 3, 3), np.float32), x),
        lambda: fc.conv2d_backward(x, x, np.ones((1, 1, 1, 1), np.float32)),
        lambda: fc.max_pool2d(x, 1), lambda: fc.max_pool2d_backward(x, x, 1),
        lambda: fc.avg_pool2d(x, 1), lambda: fc.avg_pool2d_backward(x, shape, 1),
        lambda: fc.im2col(x, 1), lambda: fc.col2im(x.sum(axis=3), 3, 1), lambda: fc.global_avg_pool2d(x),
        lambda: fc.softmax(x), lambda: fc.softmax(x, axis=0), lambda: fc.relu(x),
        lambda: fc.dense(x.sum(axis=(2, 3)), np.ones((2, shape[1]), np.float32)),
        lambda: fc.dense_backward(x.sum(axis=(2, 3)), x.sum(axis=(1, 2)), np.ones((shape[1], shape[3]), np.float32)),
    ):
        try:
            call()
        except ValueError:
            refused += 1
""",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sizes_neither_crash_nor_surprise(name: str) -> None:
    """In a process of its own: a result, a ValueError or a MemoryError, and nothing else."""
    program = f"import numpy as np, fastconv as fc\nrefused = 0\n{HOSTILE[name]}\nprint(refused)"
    assert int(run_python(program)) > 10


def test_no_images() -> None:
    """A batch of none is a batch: an empty output, and zero gradients of the weights."""
    x, weight = array(0, 4, 5, 6), array(6, 2, 3, 3)
    assert ops.conv2d(x, weight, groups=2).shape == (0, 6, 3, 4)
    grad_x, grad_weight, grad_bias = ops.conv2d_backward(array(0, 6, 3, 4), x, weight, groups=2)
    assert grad_x.shape == x.shape
    assert not grad_weight.any()
    assert not grad_bias.any()
    assert grad_weight.shape == weight.shape
    assert grad_bias.shape == (6,)
