"""Softmax, and its cross-entropy loss with the gradient."""

import numpy as np

from ._windows import Array
from .activation import into


def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """``exp(x - max) / sum(exp(x - max))`` along `axis`.

    Examples
    --------
    >>> softmax(np.array([3.2, 1.3, 0.2, 0.8])).round(4)
    array([0.7751, 0.1159, 0.0386, 0.0703])
    """
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return into(out, e / e.sum(axis=axis, keepdims=True), x)


def softmax_backward(grad_output: Array, output: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """``y * (dY - sum(dY * y))`` along `axis`."""
    inner = (grad_output * output).sum(axis=axis, keepdims=True)
    return into(out, output * (grad_output - inner), output)


def softmax_cross_entropy(logits: Array, labels: Array, *, sample_weight: Array | None = None) -> tuple[float, Array]:
    """Mean of ``-log softmax(logits)[label]``, each image weighted, and its gradient in the logits.

    Examples
    --------
    >>> loss, grad = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 6), grad
    (1.386294, array([[ 0.25,  0.25, -0.75,  0.25]]))
    """
    images = np.arange(logits.shape[0])
    weight = np.ones(len(images)) if sample_weight is None else np.asarray(sample_weight)
    weight = (weight / len(images)).astype(logits.dtype)
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1)
    losses = np.log(total) - shifted[images, labels]
    grad = e / total[:, None]
    grad[images, labels] -= 1
    return float(losses @ weight), grad * weight[:, None]
