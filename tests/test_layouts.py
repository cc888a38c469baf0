"""Wherever an array's elements lie, the result has the same bits, and the array stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import LAYOUTS, assert_same_bits
from operators import OPERATORS, ROWS, Row

from fastconv import ops, reference

pytestmark = pytest.mark.usefixtures("_one_thread")
Layout = Callable[[np.ndarray], np.ndarray]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
IN_PLACE = {name for name in OPERATORS if name.endswith("_update")}


@every_layout
@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - IN_PLACE))
def test_layout_changes_no_bit(operator: str, layout: Layout) -> None:
    for row in (row for row in ROWS if row.operator == operator):
        arrays = row.draw(np.float32)
        output = row.forward(reference, arrays)[0]
        grad = row.draw_like(output)
        laid_output, laid_grad, *laid = (np.asarray(layout(a)) for a in (output, grad, *arrays))
        before = [a.tobytes() for a in (*laid, laid_output, laid_grad)]
        assert_same_bits(row.forward(ops, tuple(laid)), row.forward(ops, arrays))
        assert_same_bits(
            row.backward(ops, laid_grad, tuple(laid), laid_output),
            row.backward(ops, grad, arrays, output),
        )
        assert [a.tobytes() for a in (*laid, laid_output, laid_grad)] == before


@every_layout
def test_layouts_are_what_they_say(layout: Layout) -> None:
    """Guard the tests here: each layout keeps the values and changes what it is named for."""
    a = np.arange(120.0, dtype=np.float32).reshape(2, 3, 4, 5)
    laid = layout(a)
    np.testing.assert_array_equal(laid, a)
    assert not (laid.flags.c_contiguous and laid.flags.writeable and laid.flags.aligned and laid.dtype.isnative)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "u4", "i8", "u8", ">i4"])
def test_labels_of_any_integer(dtype: str) -> None:
    logits = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 3, 0])
    loss, grad = ops.softmax_cross_entropy(logits, labels)
    for laid in (labels.astype(dtype), np.flip(np.flip(labels).astype(dtype))):
        other_loss, other_grad = ops.softmax_cross_entropy(logits, laid)
        assert other_loss == loss
        assert_same_bits((other_grad,), (grad,))


def test_memory_map_and_broadcast() -> None:
    """Subclasses that only say where the memory is, and a gradient of one repeated number."""
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    weight = np.ones((4, 3, 3, 3), np.float32)
    grad = np.ones((2, 4, 4, 4), np.float32)
    repeated = np.broadcast_to(np.float32(1), grad.shape)
    assert_same_bits(ops.conv2d_backward(repeated, x, weight), ops.conv2d_backward(grad, x, weight))
    assert_same_bits((ops.conv2d(x.view(np.memmap), weight),), (ops.conv2d(x, weight),))
    assert type(ops.relu(x.view(np.memmap))) is np.ndarray


OUT = ["conv2d", "dense", "relu", "leaky_relu", "sigmoid", "tanh", "softmax"]


@pytest.mark.parametrize("operator", OUT)
def test_out_is_filled_and_returned(operator: str) -> None:
    row = next(r for r in ROWS if r.operator == operator and r.shapes[0] and 0 not in r.shapes[0])
    arrays = row.draw(np.float32)
    (expected,) = row.forward(ops, arrays)
    out = np.full_like(expected, np.nan)
    assert getattr(ops, operator)(*arrays, **row.options, out=out) is out
    assert_same_bits((out,), (expected,))


@pytest.mark.parametrize("operator", ["conv2d", "dense"])
def test_gradients_are_filled_and_masked(operator: str) -> None:
    """Each of the three alone, into ``out=`` or not, has the bits it has among all three."""
    backward = getattr(ops, f"{operator}_backward")
    row = next(row for row in ROWS if row.operator == operator and len(row.shapes) == 3)
    arrays = row.draw(np.float32)
    grad = row.draw_like(row.forward(ops, arrays)[0])
    every = backward(grad, *arrays[:2], **row.options)
    for i in range(3):
        mask = [False] * 3
        mask[i] = True
        alone = backward(grad, *arrays[:2], **row.options, output_mask=tuple(mask))
        assert [result is not None for result in alone] == mask
        assert_same_bits((alone[i],), (every[i],))
    outs = tuple(np.full_like(gradient, np.nan) for gradient in every)
    filled = backward(grad, *arrays[:2], **row.options, out=outs)
    assert all(got is out for got, out in zip(filled, outs, strict=True))
    assert_same_bits(outs, every)
    odd = [None, outs[1].view(np.memmap), outs[2]]  # a list, a subclass, and one left out
    filled = backward(grad, *arrays[:2], **row.options, out=odd)
    assert all(got is out for got, out in zip(filled[1:], odd[1:], strict=True))
    assert_same_bits(filled, every)


@pytest.mark.parametrize("operator", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax"])
def test_in_place(operator: str) -> None:
    """An elementwise result may be written over the first array it comes from."""
    x, grad = np.random.default_rng(0).standard_normal((2, 3, 70)).astype(np.float32)
    forward, backward = getattr(ops, operator), getattr(ops, f"{operator}_backward")
    output = forward(x)
    over = x.copy()
    assert forward(over, out=over) is over
    assert_same_bits((over,), (output,))
    expected = backward(grad, output)
    assert backward(grad, output, out=grad) is grad
    assert_same_bits((grad,), (expected,))


@every_layout
@pytest.mark.parametrize("row", [r for r in ROWS if r.operator in IN_PLACE], ids=str)
def test_gradients_of_an_update(row: Row, layout: Layout) -> None:
    """An update needs its parameters and state in place; the gradients may lie anywhere."""
    update = getattr(ops, row.operator)
    options = {name: value for name, value in row.options.items() if name != "centered"}
    states = []
    for change in (np.copy, layout):
        parameters, gradients, *state = (np.abs(a) for a in row.draw(np.float32))
        if row.operator == "sgd_update" and not state:
            state = [None]
        if row.operator == "rmsprop_update":
            square, *rest = state
            mean = rest.pop(0) if row.options["centered"] else None
            state = [square, mean, rest.pop(0) if rest else None]
        update(parameters, change(gradients), *state, **options)
        states.append(tuple(a for a in (parameters, *state) if a is not None))
    assert_same_bits(*states)
