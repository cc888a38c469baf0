"""Losses of numbers: functions of the difference between prediction and target, mean over a sample's outputs."""

from __future__ import annotations

import numpy as np

from .. import ops
from .._validation import Array, above_zero, real
from .base import Loss, mean_of_outputs, outputs, work


class MeanSquaredError(Loss):
    """``mean((y_pred - y_true)^2)``, gradient ``2 (y_pred - y_true) / size``.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> MeanSquaredError()([[0.0, 1.0]], np.array([[0.5, 1.0]]))
    0.125
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean squares and their gradients."""
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        flat = difference.reshape(len(difference), -1)
        # Squares in float64: those of float32 numbers above 1.8e19 overflow.
        squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
        difference *= 2 / outputs(y_pred)
        return squares / outputs(y_pred), difference


class MeanAbsoluteError(Loss):
    """``mean(|y_pred - y_true|)``; its gradient is the sign over the size, 0 where both are equal.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> MeanAbsoluteError()([[0.0, 1.0]], np.array([[0.5, 1.0]]))
    0.25
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean distances and their gradients."""
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        distance = np.abs(difference, out=work(y_pred))
        np.sign(difference, out=difference)
        difference /= outputs(y_pred)
        return mean_of_outputs(distance), difference


class MeanAbsolutePercentageError(Loss):
    """``100 mean(|y_pred - y_true| / max(|y_true|, 1e-7))``: percent, as in Keras.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> round(MeanAbsolutePercentageError()([[2.0, 10.0]], np.array([[1.0, 11.0]])), 6)
    30.0
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean percentages and their gradients."""
        scale = np.abs(y_true, out=work(y_pred))
        np.maximum(scale, 1e-7, out=scale)
        np.divide(100, scale, out=scale)
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        gradient = np.sign(difference, out=work(y_pred))
        gradient *= scale
        difference *= gradient
        gradient /= outputs(y_pred)
        return mean_of_outputs(difference), gradient


class Huber(Loss):
    """``d^2 / 2`` where ``|d| <= delta``, else ``delta |d| - delta^2 / 2``; d is prediction minus target.

    Quadratic near the target, linear far away, so that outliers pull with `delta` at most (Huber, "Robust estimation
    of a location parameter", 1964). With delta 1 it is PyTorch's smooth L1.

    Parameters
    ----------
    delta : float above 0, default 1
    reduction
        As in `Loss`.

    Examples
    --------
    >>> Huber()([[0.0, 0.0]], np.array([[0.5, 3.0]]))
    1.3125
    """

    def __init__(self, delta: float = 1.0, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(reduction)
        self.delta = above_zero(delta, "delta")

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        slope = np.clip(difference, -self.delta, self.delta, out=work(y_pred))
        # slope * (d - slope / 2) is d^2 / 2 where slope is d, and delta |d| - delta^2 / 2 where it is +-delta.
        difference -= 0.5 * slope
        difference *= slope
        slope /= outputs(y_pred)
        return mean_of_outputs(difference), slope


class LogCosh(Loss):
    """``mean(log(cosh(d)))``: nearly ``d^2 / 2`` for small differences d, ``|d| - log 2`` for large ones.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> round(LogCosh()([[0.0]], np.array([[1.0]])), 6)
    0.433781
    >>> round(LogCosh()([[0.0]], np.array([[1000.0]])), 6)
    999.306853
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        gradient = ops.tanh(difference)
        # log cosh d = 2 log cosh(d / 2) + log(1 + tanh(d/2)^2) would keep more digits near 0 than this sum, which
        # cancels there: log cosh d = |d| + log1p(exp(-2 |d|)) - log 2. Small d take the series d^2/2 - d^4/12.
        size = np.abs(difference, out=difference).astype(np.float64)
        losses = size + np.log1p(np.expm1(-2 * size) / 2)
        series = size * size * (0.5 - size * size / 12)
        gradient /= outputs(y_pred)
        return mean_of_outputs(np.where(size < 1e-2, series, losses)), gradient


class Quantile(Loss):
    """``mean(max(q d, (q - 1) d))``, d target minus prediction: the pinball loss, least at the q-quantile.

    Too low a prediction costs q for each unit, too high a one 1 - q (Koenker and Bassett, "Regression quantiles",
    1978). The gradient is 0 where both are equal.

    Parameters
    ----------
    quantile : float between 0 and 1, default 0.5
        0.5 is half the absolute error.
    reduction
        As in `Loss`.

    Examples
    --------
    >>> Quantile(0.75)([[1.0, 1.0]], np.array([[0.0, 2.0]]))
    0.5
    """

    def __init__(self, quantile: float = 0.5, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(reduction)
        self.quantile = real(quantile, "quantile")
        if not 0 < self.quantile < 1:
            raise ValueError(f"expected quantile to lie between 0 and 1; received {quantile!r}")

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        difference = np.subtract(y_pred, y_true, out=work(y_pred))
        gradient = np.sign(difference, out=work(y_pred))
        gradient *= np.where(gradient > 0, 1 - self.quantile, self.quantile)
        difference *= gradient
        gradient /= outputs(y_pred)
        return mean_of_outputs(difference), gradient


class Poisson(Loss):
    """``mean(y_pred - y_true log(y_pred))``: how unlikely counts are under predicted rates.

    Parameters
    ----------
    log_input : bool, default False
        Predictions are logarithms of rates, and the loss is ``exp(y_pred) - y_true y_pred``, as PyTorch's
        PoissonNLLLoss has it; no logarithm is taken then. Rates are clipped where their logarithm would overflow;
        Keras adds 1e-7 to all of them.
    reduction
        As in `Loss`.

    Examples
    --------
    >>> round(Poisson()([[2.0]], np.array([[4.0]])), 6)
    1.227411
    """

    def __init__(self, log_input: bool = False, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(reduction)
        if not isinstance(log_input, bool):
            raise TypeError(f"expected log_input to be True or False; received {log_input!r}")
        self.log_input = log_input

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        if self.log_input:
            gradient = np.exp(y_pred, out=work(y_pred))
            losses = gradient - y_true * y_pred
            gradient -= y_true
        else:
            rate = np.maximum(y_pred, floor(y_pred), out=work(y_pred))
            losses = y_pred - y_true * np.log(rate)
            gradient = np.divide(y_true, rate, out=rate)
            np.subtract(1, gradient, out=gradient)
        gradient /= outputs(y_pred)
        return mean_of_outputs(losses), gradient


def floor(numbers: Array) -> float:
    """Return what numbers are clipped at before their logarithm is taken."""
    return 1e-30 if numbers.dtype == np.float32 else 1e-300
