"""Cross-entropies and what is made of them: losses of logits or of probabilities.

Logits are exact everywhere. Probabilities are clipped only where their logarithm would overflow, 1e-30 in float32
and 1e-300 in float64, where Keras clips at 1e-7: a confident mistake keeps its gradient.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from .._call import are_labels, empty
from .._validation import Array, at_least_zero, real
from .base import Loss, ValueAndGradient, mean_of_outputs, outputs, work
from .regression import floor


class CrossEntropy(Loss):
    """Base of the cross-entropies: says whether predictions are logits or probabilities.

    Parameters
    ----------
    from_logits : bool, optional
        True if predictions are logits, False if they are probabilities. Left open, ``compile``
        sets it from the model's last layer; a loss called on its own then takes probabilities.
    label_smoothing : float from 0 up to 1
        Share of each target that is spread evenly over the classes.
    reduction
        As in `Loss`.
    """

    activation = "softmax"
    """What turns logits into probabilities, for ``compile`` to look for."""

    def __init__(
        self,
        from_logits: bool | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(reduction)
        if from_logits is not None and not isinstance(from_logits, bool):
            raise TypeError(f"expected from_logits to be True or False; received {from_logits!r}")
        self.from_logits = from_logits
        self.label_smoothing = _share(label_smoothing, "label_smoothing")

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return cross-entropies and their gradients."""
        if self.from_logits:
            return self._of_logits(y_true, y_pred)
        return self._of_probabilities(y_true, y_pred)

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class BinaryCrossentropy(CrossEntropy):
    """``-t log(p) - (1 - t) log(1 - p)``, mean over samples and outputs; ``p = sigmoid(logit)``.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in a logit is ``(p - t) / size``.
    label_smoothing : float from 0 up to 1, default 0
        Targets become ``t (1 - label_smoothing) + label_smoothing / 2``.
    reduction
        As in `Loss`.

    Examples
    --------
    >>> loss = BinaryCrossentropy(from_logits=True)
    >>> value, gradient = loss.value_and_gradient([[1.0], [0.0]], np.array([[0.0], [0.0]]))
    >>> round(value, 6), gradient.ravel()
    (0.693147, array([-0.25,  0.25]))
    """

    activation = "sigmoid"

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets lie between 0 and 1, and smooth them."""
        y = super().prepare_targets(y, shape, dtype)
        check_probabilities(y, "binary_crossentropy")
        return _smooth(y, self.label_smoothing, 2)

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        losses, gradient = _binary_of_logits(y_true, y_pred)
        gradient /= outputs(y_pred)
        return mean_of_outputs(losses), gradient

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        losses, gradient = _binary_of_probabilities(y_true, _clipped(y_pred))
        gradient /= outputs(y_pred)
        return mean_of_outputs(losses), gradient


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """The binary cross-entropy times ``(1 - p_t)^gamma``: what is already right counts little.

    ``p_t = t p + (1 - t)(1 - p)`` is the probability of the target (Lin et al., "Focal loss for dense object
    detection", 2017, in Keras's form).

    Parameters
    ----------
    apply_class_balancing : bool, default False
        Multiply by alpha where the target is 1, and by 1 - alpha where it is 0.
    alpha : float from 0 up to 1, default 0.25
    gamma : float, at least 0, default 2
        0 leaves the cross-entropy.
    from_logits, label_smoothing, reduction
        As in `BinaryCrossentropy`.

    Examples
    --------
    >>> round(BinaryFocalCrossentropy()([[1.0]], np.array([[0.5]])), 6)
    0.173287
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction)
        self.apply_class_balancing = bool(apply_class_balancing)
        self.alpha = _share(alpha, "alpha")
        self.gamma = at_least_zero(gamma, "gamma")

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        entropy, slope = _binary_of_logits(y_true, y_pred)
        p, complement = ops.sigmoid(y_pred), ops.sigmoid(-y_pred)
        return self._focus(y_true, p, complement, p * complement, entropy, slope)

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        p = _clipped(y_pred)
        entropy, slope = _binary_of_probabilities(y_true, p)
        return self._focus(y_true, p, 1 - p, 1, entropy, slope)

    def _focus(
        self, t: Array, p: Array, complement: Array, rate: Array | int, entropy: Array, slope: Array
    ) -> tuple[Array, Array]:
        """Multiply by the focus; `rate` is the derivative of p in the prediction."""
        missed = t * complement + (1 - t) * p
        focus = missed**self.gamma
        if self.apply_class_balancing:
            focus *= t * self.alpha + (1 - t) * (1 - self.alpha)
        # The focus's own derivative, gamma missed^(gamma - 1) (1 - 2t), with 0 for 0/0: entropy is 0 there.
        change = np.divide(self.gamma * focus, missed, out=np.zeros_like(missed), where=missed > 0)
        gradient = focus * slope + change * (1 - 2 * t) * rate * entropy
        gradient /= outputs(gradient)
        return mean_of_outputs(focus * entropy), gradient


class CategoricalCrossentropy(CrossEntropy):
    """``-sum_k t_k log(p_k)``, mean over samples; targets are one-hot or any distribution.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in the logits is ``(p sum(t) - t) / N``. Probabilities
        are taken as they are: they are not divided by their sum.
    label_smoothing : float from 0 up to 1, default 0
        Targets become ``t (1 - label_smoothing) + label_smoothing / classes``.
    reduction
        As in `Loss`.

    Examples
    --------
    >>> round(CategoricalCrossentropy()([[0.0, 1.0]], np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are distributions over the classes, and smooth them."""
        check_classes(shape, "categorical_crossentropy")
        if y.ndim == 1:
            raise ValueError(
                f"expected y of shape {shape}, one column a class; received {y.shape}: integer "
                "labels go with loss='sparse_categorical_crossentropy'"
            )
        y = super().prepare_targets(y, shape, dtype)
        check_probabilities(y, "categorical_crossentropy")
        return _smooth(y, self.label_smoothing, shape[1])

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        return _categorical_of_logits(y_true, y_pred)

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        return _categorical_of_probabilities(y_true, y_pred)


class CategoricalFocalCrossentropy(CategoricalCrossentropy):
    """``-sum_k alpha (1 - p_k)^gamma t_k log(p_k)``: what is already right counts little.

    Lin et al., "Focal loss for dense object detection", 2017, in Keras's form.

    Parameters
    ----------
    alpha : float from 0 up to 1, default 0.25
        Multiplies the loss.
    gamma : float, at least 0, default 2
        0 leaves the cross-entropy.
    from_logits, label_smoothing, reduction
        As in `CategoricalCrossentropy`.

    Examples
    --------
    >>> round(CategoricalFocalCrossentropy(alpha=1.0)([[0.0, 1.0]], np.array([[0.5, 0.5]])), 6)
    0.173287
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction)
        self.alpha = _share(alpha, "alpha")
        self.gamma = at_least_zero(gamma, "gamma")

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        logs, p = _log_softmax(y_pred)
        losses, scaled = self._focus(y_true, p, -np.expm1(logs), logs)
        # Through the softmax: dL/dz_j = p_j dL/dp_j - p_j sum_k p_k dL/dp_k.
        return losses, scaled - p * scaled.sum(axis=1, keepdims=True)

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        p = np.clip(y_pred, floor(y_pred), 1, out=work(y_pred))
        losses, scaled = self._focus(y_true, p, 1 - p, np.log(p))
        return losses, scaled / p

    def _focus(self, t: Array, p: Array, missed: Array, logs: Array) -> tuple[Array, Array]:
        """Return the losses, and ``p dL/dp``, in which no division is left."""
        focus = self.alpha * t * missed**self.gamma
        change = np.divide(self.gamma * focus, missed, out=np.zeros_like(missed), where=missed > 0)
        return -(focus * logs).sum(axis=1, dtype=np.float64), p * change * logs - focus


class SparseCategoricalCrossentropy(CrossEntropy):
    """``-log(p[label])``, mean over samples; targets are integer labels.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in the logits is ``(p - onehot(label)) / N``.
    label_smoothing : float from 0 up to 1, default 0
        As in `CategoricalCrossentropy`, of the one-hot labels; PyTorch's CrossEntropyLoss has it too.
    reduction
        As in `Loss`.

    Examples
    --------
    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> round(loss([2, 0], np.zeros((2, 4))), 6)
    1.386294
    """

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are labels 0 .. classes - 1 and convert them to int64."""
        check_classes(shape, "sparse_categorical_crossentropy")
        samples, classes = shape
        if are_labels(y, samples, classes):
            return y
        if y.shape == shape and classes > 1:
            raise ValueError(
                f"expected y of shape ({samples},) with integer labels; received {y.shape}: "
                "one-hot rows go with loss='categorical_crossentropy'"
            )
        labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if labels.shape != (samples,):
            raise ValueError(f"expected y of shape ({samples},); received {y.shape}")
        valid = (labels >= 0) & (labels < classes)
        if labels.dtype.kind == "f":
            valid &= labels == np.floor(labels)
        if not valid.all():
            index = int(np.argmin(valid))
            raise ValueError(
                f"expected labels 0 to {classes - 1}, for the model's {classes} outputs; received "
                f"{labels[index]} at index {index}"
            )
        return np.ascontiguousarray(labels, dtype=np.int64)

    def compute(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the mean and its gradient; of logits, by one fused kernel."""
        if self.from_logits and not self.label_smoothing:
            return ops.softmax_cross_entropy(y_pred, y_true, sample_weight=sample_weight)
        return super().compute(y_true, y_pred, sample_weight)

    def _of_logits(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        return _categorical_of_logits(self._one_hot(y_true, y_pred), y_pred)

    def _of_probabilities(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        if self.label_smoothing:
            return _categorical_of_probabilities(self._one_hot(y_true, y_pred), y_pred)
        rows = np.arange(len(y_true))
        p = np.maximum(y_pred[rows, y_true], floor(y_pred))
        gradient = empty(y_pred.shape, y_pred.dtype)
        gradient.fill(0)
        gradient[rows, y_true] = -1 / p
        return -np.log(p, dtype=np.float64), gradient

    def _one_hot(self, labels: Array, y_pred: Array) -> Array:
        one_hot = np.zeros_like(y_pred)
        one_hot[np.arange(len(labels)), labels] = 1
        return _smooth(one_hot, self.label_smoothing, y_pred.shape[1])


class KLDivergence(CategoricalCrossentropy):
    """``sum_k t_k log(t_k / p_k)``, mean over samples: the cross-entropy less the targets' own entropy.

    Its gradient is that of `CategoricalCrossentropy` (Kullback and Leibler, 1951).

    Parameters
    ----------
    from_logits, label_smoothing, reduction
        As in `CategoricalCrossentropy`.

    Examples
    --------
    >>> round(KLDivergence()([[0.5, 0.5]], np.array([[0.25, 0.75]])), 6)
    0.143841
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return divergences and their gradients."""
        losses, gradient = super().per_sample(y_true, y_pred)
        logs = np.log(y_true, out=np.zeros(y_true.shape), where=y_true > 0)
        return losses + (y_true * logs).sum(axis=1), gradient


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    """Return the logarithms of the probabilities, and the probabilities."""
    logs = work(logits)
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=logs)
    p = np.exp(logs, out=work(logits))
    total = p.sum(axis=1, keepdims=True)
    logs -= np.log(total)
    p /= total
    # A logit of -inf whose target is 0 costs nothing; -inf * 0 would be NaN.
    return np.maximum(logs, np.finfo(logs.dtype).min, out=logs), p


def _categorical_of_logits(t: Array, z: Array) -> tuple[Array, Array]:
    """Return the cross-entropy of each sample and its gradient in the logits."""
    logs, gradient = _log_softmax(z)
    logs *= t
    gradient *= t.sum(axis=1, keepdims=True)
    gradient -= t
    return -logs.sum(axis=1, dtype=np.float64), gradient


def _categorical_of_probabilities(t: Array, p: Array) -> tuple[Array, Array]:
    """Return the cross-entropy of each sample and its gradient in the probabilities."""
    p = np.maximum(p, floor(p), out=work(p))
    logs = np.log(p, out=work(p))
    logs *= t
    gradient = np.divide(t, p, out=p)
    return -logs.sum(axis=1, dtype=np.float64), np.negative(gradient, out=gradient)


def _binary_of_logits(t: Array, z: Array) -> tuple[Array, Array]:
    """Return the cross-entropy of each output and its derivative in the logit."""
    # max(z, 0) - z t + log(1 + exp(-|z|)): no exponential overflows.
    losses = np.abs(z, out=work(z))
    np.negative(losses, out=losses)
    np.exp(losses, out=losses)
    np.log1p(losses, out=losses)
    part = np.maximum(z, 0, out=work(z))
    losses += part
    losses -= np.multiply(z, t, out=part)
    gradient = ops.sigmoid(z)
    gradient -= t
    return losses, gradient


def _clipped(p: Array) -> Array:
    almost_one = 1 - float(np.finfo(p.dtype).epsneg)
    clipped: Array = np.clip(p, floor(p), almost_one, out=work(p))
    return clipped


def _binary_of_probabilities(t: Array, p: Array) -> tuple[Array, Array]:
    """Return the cross-entropy of each output and its derivative in the probability."""
    losses = np.log(p, out=work(p))
    losses *= t
    part = np.negative(p, out=work(p))
    complement = np.add(part, 1, out=work(p))
    np.log1p(part, out=part)
    losses += part
    losses -= np.multiply(part, t, out=part)
    gradient = np.subtract(p, t, out=part)
    gradient /= np.multiply(p, complement, out=complement)
    return np.negative(losses, out=losses), gradient


def _smooth(y: Array, share: float, classes: int) -> Array:
    return y * (1 - share) + share / classes if share else y


def _share(value: float, name: str) -> float:
    number = real(value, name)
    if not 0 <= number <= 1:
        raise ValueError(f"expected {name} to lie between 0 and 1; received {value!r}")
    return number


def check_classes(shape: tuple[int, ...], loss: str) -> None:
    """Refuse predictions that are no rows of classes."""
    if len(shape) != 2:
        raise ValueError(
            f"expected predictions of shape (N, classes) for loss={loss!r}; received {shape}: "
            "end the model in Flatten() or GlobalAvgPool2D(), then Dense(classes)"
        )


def check_probabilities(y: Array, loss: str) -> None:
    """Refuse targets outside 0 to 1."""
    low, high = float(y.min(initial=0)), float(y.max(initial=0))
    if not (low >= 0 and high <= 1 and math.isfinite(low + high)):
        raise ValueError(f"expected y between 0 and 1 for loss={loss!r}; received values from {low} to {high}")
