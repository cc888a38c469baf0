"""Losses that have a kernel of their own: value and gradient in one pass."""

from __future__ import annotations

import numpy as np

from fastconv import _call, _dispatch
from fastconv import _validation as check
from fastconv._call import Plans, are_labels, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_loss = _dispatch.Kernels("loss")
_plans = Plans()
_FLOAT64 = np.dtype(np.float64)


def softmax_cross_entropy(logits: Array, labels: Array, *, sample_weight: Array | None = None) -> tuple[float, Array]:
    """Compute the mean cross-entropy of softmax(logits) and its gradient.

    ``loss = mean_n(w_n * (log(sum_j exp(z_nj - m_n)) - (z_n,label - m_n)))`` with ``m_n = max_j z_nj``, which
    does not overflow; ``grad = w_n / N * (softmax(z_n) - onehot(label_n))``.

    Parameters
    ----------
    logits : ndarray (N, classes), float32 or float64
        Scores before softmax.
    labels : ndarray (N,), integers
        The right class of each row, from 0 to classes - 1.
    sample_weight : ndarray (N,), optional
        Weight w_n of each row, of the dtype of `logits`; the sum is divided by N, as in Keras.

    Returns
    -------
    loss : float
        The mean.
    grad_logits : ndarray (N, classes)
        Gradient of that mean.

    Raises
    ------
    TypeError
        Logits or weights that are not of one floating dtype, labels that are not integers.
    ValueError
        Shapes that do not fit, or a label out of range.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> loss, grad = fc.softmax_cross_entropy(np.zeros((1, 2), np.float32), np.array([1]))
    >>> round(loss, 6), grad
    (0.693147, array([[ 0.5, -0.5]], dtype=float32))
    """
    kernel = _plans.find(logits, sample_weight)
    if kernel is None or not are_labels(labels, *logits.shape):
        logits, labels, sample_weight = _checked(logits, labels, sample_weight)
        kernel = _loss[logits.dtype.char].softmax_cross_entropy
        _plans.keep(kernel, logits, sample_weight)
    shape = logits.shape
    grad = _call.empty(shape, logits.dtype)
    losses = _call.empty(shape[:1], _FLOAT64)
    loss: float = run(kernel, logits, labels, sample_weight, losses, grad, get_num_threads())
    return loss, grad


def _checked(logits: Array, labels: Array, sample_weight: Array | None) -> tuple[Array, Array, Array | None]:
    """Check the arguments; return the arrays as the kernel reads them."""
    logits = check.array(logits, "logits")
    if type(labels) is not np.ndarray or labels.dtype.kind not in "iu":
        kind = labels.dtype if type(labels) is np.ndarray else type(labels).__name__
        raise TypeError(f"labels: expected a NumPy array of integers; received {kind}")
    if sample_weight is not None:
        sample_weight = check.array_like(sample_weight, "sample_weight", logits, "logits")
    check.axes(logits, "logits", 2)
    rows, classes = logits.shape
    if rows == 0 or classes == 0:
        raise ValueError(f"logits: expected at least one row and one class; received {logits.shape}")
    if labels.shape != (rows,):
        raise ValueError(f"labels: expected shape ({rows},), one for each row of logits; received {labels.shape}")
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"labels: expected 0 to {classes - 1} for {classes} classes; received {lowest if lowest < 0 else highest}"
        )
    if sample_weight is not None:
        sample_weight = check.shaped_like(
            sample_weight, "sample_weight", (rows,), "one for each row of logits", logits, "logits"
        )
    return logits, np.require(labels, np.dtype(np.int64), ["C_CONTIGUOUS", "ALIGNED"]), sample_weight
