"""Hypothesis draws shapes, strides, paddings and layouts that nobody thought of; the oracle answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from checks import LAYOUTS, assert_same_bits, check_backward, check_forward, check_whole_numbers
from hypothesis import given
from hypothesis import strategies as st
from operators import Row

from fastconv import ops, reference

dtypes = st.sampled_from([np.float32, np.float64])
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def convolutions(draw: st.DrawFn) -> Row:
    groups = draw(st.integers(1, 4))
    in_channels, out_channels = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding: Any = draw(st.sampled_from(["same", "valid"]) | st.tuples(sides, sides) | sides | st.integers(0, 3))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (draw(st.integers(span, span + 12)) for span in spans)
    shapes = [
        (draw(st.integers(0, 3)), groups * in_channels, height, width),
        (groups * out_channels, in_channels, *kernel),
        (groups * out_channels,),
    ]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Row("conv2d", tuple(shapes[: draw(st.integers(2, 3))]), options)


@st.composite
def poolings(draw: st.DrawFn) -> Row:
    maximum = draw(st.booleans())
    kernel, stride = draw(pairs), draw(pairs | st.none())
    dilation = draw(pairs) if maximum else (1, 1)
    padding: Any = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    padding = draw(st.sampled_from(["same", "valid", padding]))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (draw(st.integers(span, span + 20)) for span in spans)
    options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
    options["ceil_mode"] = draw(st.booleans())
    if maximum:
        options |= {"dilation": dilation, "return_indices": draw(st.booleans())}
    else:
        options |= {"count_include_pad": draw(st.booleans())}
        options |= {"divisor_override": draw(st.none() | st.integers(1, 9))}
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 5)), height, width)
    return Row("max_pool2d" if maximum else "avg_pool2d", (shape,), options)


@st.composite
def products(draw: st.DrawFn) -> Row:
    sizes = st.integers(0, 40)
    batch, inputs, outputs = draw(sizes), draw(sizes), draw(sizes.filter(bool))
    shapes = ((batch, inputs), (outputs, inputs), (outputs,))
    return Row("dense", shapes[: draw(st.integers(2, 3))], {})


rows = convolutions() | poolings() | products()


@given(rows, dtypes)
def test_forward_is_within_its_bound(row: Row, dtype: Any) -> None:
    check_forward(row, dtype)


@given(rows, dtypes)
def test_backward_is_within_its_bound(row: Row, dtype: Any) -> None:
    check_backward(row, dtype)


@given(rows.filter(lambda row: row.integral), dtypes)
def test_whole_numbers_are_exact(row: Row, dtype: Any) -> None:
    check_whole_numbers(row, dtype)


@given(convolutions(), dtypes)
def test_columns_are_exact(row: Row, dtype: Any) -> None:
    (x,), options = row.draw(dtype)[:1], {k: v for k, v in row.options.items() if k != "groups"}
    columns = Row("im2col", (x.shape,), {"kernel_size": row.shapes[1][2:], **options})
    check_whole_numbers(columns, dtype)
    check_backward(columns, dtype)


@given(rows, st.lists(st.sampled_from(LAYOUTS), min_size=4, max_size=4))
def test_layout_changes_no_bit(row: Row, layouts: list[Any]) -> None:
    """Each array in a layout of its own."""
    arrays = row.draw(np.float32)
    output = row.forward(reference, arrays)[0]
    grad = row.draw_like(output)
    laid_grad, *laid = (layout(a) for layout, a in zip(layouts, (grad, *arrays), strict=False))
    assert_same_bits(row.forward(ops, tuple(laid)), row.forward(ops, arrays))
    assert_same_bits(row.backward(ops, laid_grad, tuple(laid), output), row.backward(ops, grad, arrays, output))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.data())
def test_softmax_along_any_axis(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] = max(1, shape[axis])
    row = Row("softmax", (tuple(shape),), {"axis": axis})
    check_forward(row, np.float32)
    check_backward(row, np.float32)
