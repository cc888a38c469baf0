"""Output sizes: every operator's against a count of the windows that fit, over a sweep of one axis."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import reference

SIZES = range(1, 14)
KERNELS = range(1, 6)
STRIDES = range(1, 5)
PADDINGS: list[Any] = [0, 1, 2, ((0, 0), (0, 1)), ((0, 0), (2, 1))]


def count_windows(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Count starts whose taps all lie in the padded axis.

    In ceil mode also a start whose taps do not, if it lies in the image or the padding before it, and if the
    windows until there leave a padded pixel behind.
    """
    span = dilation * (kernel - 1) + 1
    end = size + before + after
    count = sum(1 for start in range(0, end, stride) if start + span <= end)
    if ceil_mode and count:
        reached = (count - 1) * stride + span
        if reached < end and count * stride < size + before:
            count += 1
    return count


def sweep(dilations: tuple[int, ...]) -> Any:
    return itertools.product(SIZES, KERNELS, STRIDES, PADDINGS, dilations)


def split(padding: Any) -> tuple[int, int]:
    """Give the padding of the last axis."""
    return (padding, padding) if isinstance(padding, int) else padding[1]


@pytest.mark.parametrize("library", [fastconv, reference], ids=["fastconv", "reference"])
def test_convolution_size(library: Any) -> None:
    """Rows stay one pixel high, so that the last axis is what is counted."""
    fit = 0
    for size, kernel, stride, padding, dilation in sweep((1, 2, 3)):
        x, weight = np.ones((1, 1, 6, size)), np.ones((1, 1, 1, kernel))
        expected = count_windows(size, kernel, stride, *split(padding), dilation, False)
        if expected:
            shape = library.conv2d(x, weight, None, (1, stride), padding, (1, dilation)).shape
            assert shape[3] == expected
            columns = library.im2col(x, (1, kernel), (1, stride), padding, (1, dilation))
            assert columns.shape == (1, kernel, shape[2] * expected)
            fit += 1
        elif library is fastconv:
            with pytest.raises(ValueError, match=r"kernel_size: expected .*; received .*floor\("):
                library.conv2d(x, weight, None, (1, stride), padding, (1, dilation))
    assert fit > 1000


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("library", [fastconv, reference], ids=["fastconv", "reference"])
def test_pooling_size(library: Any, ceil_mode: bool) -> None:
    fit = 0
    for size, kernel, stride, padding, dilation in sweep((1, 2)):
        before, after = split(padding)
        expected = count_windows(size, kernel, stride, before, after, dilation, ceil_mode)
        if not expected or max(before, after) > kernel // 2:
            continue
        x, sides = np.ones((1, 1, 1, size)), ((0, 0), (before, after))
        window = ((1, kernel), (1, stride), sides)
        y, indices = library.max_pool2d(x, *window, (1, dilation), ceil_mode=ceil_mode, return_indices=True)
        assert y.shape == indices.shape == (1, 1, 1, expected)
        if dilation == 1:
            means = library.avg_pool2d(x, *window, ceil_mode=ceil_mode, count_include_pad=False)
            np.testing.assert_allclose(means, np.ones((1, 1, 1, expected)), rtol=1e-15)
        fit += 1
    assert fit > 400


@pytest.mark.parametrize("library", [fastconv, reference], ids=["fastconv", "reference"])
def test_same_padding(library: Any) -> None:
    """``ceil(size / stride)`` outputs at every stride, and the odd pixel of padding after the image."""
    for size, kernel, stride, dilation in itertools.product(SIZES, KERNELS, STRIDES, (1, 2)):
        x, weight = np.ones((1, 1, 1, size)), np.ones((1, 1, 1, kernel))
        options = ((1, stride), "same", (1, dilation))
        y = library.conv2d(x, weight, None, *options)[0, 0, 0]
        assert len(y) == math.ceil(size / stride)
        total = max(0, (len(y) - 1) * stride + dilation * (kernel - 1) + 1 - size)
        padded = np.pad(x[0, 0, 0], (total // 2, total - total // 2))
        taps = [padded[o * stride : o * stride + dilation * (kernel - 1) + 1 : dilation] for o in range(len(y))]
        np.testing.assert_array_equal(y, [tap.sum() for tap in taps])
        assert library.max_pool2d(x, (1, kernel), *options).shape == (1, 1, 1, len(y))


def test_sizes_by_hand() -> None:
    """The lecture's: 28x28x1 to 7x7x32, and 44 pixels under a kernel of 3 at stride 4."""
    x = np.zeros((1, 1, 28, 28), np.float32)
    x = fastconv.max_pool2d(fastconv.conv2d(x, np.zeros((16, 1, 5, 5), np.float32), padding=2), 2)
    assert x.shape == (1, 16, 14, 14)
    x = fastconv.max_pool2d(fastconv.conv2d(x, np.zeros((32, 16, 5, 5), np.float32), padding=2), 2)
    assert x.shape == (1, 32, 7, 7)
    assert fastconv.conv2d(np.zeros((1, 1, 44, 44)), np.zeros((1, 1, 3, 3)), stride=4).shape == (1, 1, 11, 11)
