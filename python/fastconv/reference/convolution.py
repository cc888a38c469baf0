"""Sums of products: convolution and the fully connected layer, by matrix product."""

from typing import TypeAlias

import numpy as np

from ._windows import Array, Padding, Pair, axes, col2im, im2col
from .activation import ACTIVATIONS, Activation, into

Gradients: TypeAlias = tuple[Array | None, Array | None, Array | None]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """Cross-correlation: ``y[n, k, i, j] = bias[k] + sum_crs weight[k, c, r, s] * window``.

    Examples
    --------
    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.array([0.5]))[0, 0]
    array([[4.5, 4.5],
           [4.5, 4.5]])
    """
    rows, cols = axes(x.shape, weight.shape[2:], stride, padding, dilation)
    images, filters = x.shape[0], weight.shape[0]
    columns = im2col(x, weight.shape[2:], stride, padding, dilation)
    y = np.matmul(weight.reshape(groups, filters // groups, -1), _grouped(columns, groups))
    y = y.reshape(images, filters, rows.output, cols.output)
    if bias is not None:
        y += bias[:, None, None]
    return into(out, ACTIVATIONS[activation].forward(y), x)


def conv2d_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    out: Gradients = (None, None, None),
) -> Gradients:
    """Gradients of `conv2d`: ``col2im(W^T dY)``, ``dY columns^T`` and the sum of ``dY``.

    Examples
    --------
    >>> gx, gw, gb = conv2d_backward(
    ...     np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    >>> gw[0, 0], gb
    (array([[4., 4.],
           [4., 4.]]), array([4.]))
    """
    images, filters, rows, cols = grad_output.shape
    grad = _grouped(grad_output.reshape(images, filters, rows * cols), groups)
    grad_x = grad_weight = grad_bias = None
    if output_mask[0]:
        matrix = weight.reshape(groups, filters // groups, -1)
        columns = np.matmul(matrix.swapaxes(1, 2), grad)
        columns = columns.reshape(images, groups * matrix.shape[2], rows * cols)
        image = col2im(columns, x.shape[2:], weight.shape[2:], stride, padding, dilation)
        grad_x = into(out[0], image, x)
    if output_mask[1]:
        columns = _grouped(im2col(x, weight.shape[2:], stride, padding, dilation), groups)
        products = np.matmul(grad, columns.swapaxes(2, 3))
        grad_weight = into(out[1], products.sum(axis=0).reshape(weight.shape), x)
    if output_mask[2]:
        grad_bias = into(out[2], grad_output.sum(axis=(0, 2, 3)), x)
    return grad_x, grad_weight, grad_bias


def _grouped(columns: Array, groups: int) -> Array:
    """``(N, groups * M, P)`` as ``(N, groups, M, P)``, also where N is 0."""
    images, entries, pixels = columns.shape
    return columns.reshape(images, groups, entries // groups, pixels)


def dense(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """Fully connected layer: ``y = x W^T + bias``.

    Examples
    --------
    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [-5.0, 0.0]]), activation="relu")
    array([[11.,  0.]])
    """
    y = x @ weight.T
    if bias is not None:
        y += bias
    return into(out, ACTIVATIONS[activation].forward(y), x)


def dense_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    out: Gradients = (None, None, None),
) -> Gradients:
    """Gradients of `dense`: ``dY W``, ``dY^T x`` and the sum of ``dY`` over the batch."""
    grad_x = into(out[0], grad_output @ weight, x) if output_mask[0] else None
    grad_weight = into(out[1], grad_output.T @ x, x) if output_mask[1] else None
    grad_bias = into(out[2], grad_output.sum(axis=0), x) if output_mask[2] else None
    return grad_x, grad_weight, grad_bias
