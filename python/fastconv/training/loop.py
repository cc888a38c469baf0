"""The loops: one step, one epoch of training, one of evaluation, one prediction.

Everything was checked before; here stands what happens once a batch, and nothing else. A step runs
in the model's arena, so that from the second one on it allocates nothing large: what it computed
is valid until the next step begins.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from .._call import Arena
from .._validation import Array
from ..metrics import Metric
from .batches import Batches
from .compiled import Compiled
from .hooks import CallbackList, Logs

if TYPE_CHECKING:
    from .model import Sequential


class Tally:
    """The mean loss and the metrics of the batches so far."""

    def __init__(self, metrics: list[Metric]) -> None:
        # Copies: a callback that evaluates in the middle of an epoch must not disturb its counts.
        self.metrics = [copy.copy(metric) for metric in metrics]
        self.total = 0.0
        self.seen = 0
        for metric in self.metrics:
            metric.reset_state()

    def add(self, loss: float, y: Array, prediction: Array) -> None:
        """Count a batch."""
        size = len(prediction)
        self.total += loss * size
        self.seen += size
        for metric in self.metrics:
            metric.update_state(y, prediction)

    def logs(self) -> Logs:
        """Return the loss and the metrics by name."""
        logs = {"loss": self.total / self.seen}
        for metric in self.metrics:
            logs[metric.name] = metric.result()
        return logs


def train_step(model: Sequential, compiled: Compiled, x: Array, y: Array, weight: Array | None) -> tuple[float, Array]:
    """Make one training step, inside an open arena.

    Returns
    -------
    loss : float
        Before the step.
    prediction : ndarray

    Raises
    ------
    FloatingPointError
        If the loss is NaN or infinite; the parameters are then those before the step.
    """
    flat = compiled.flat if compiled.flat.current else compiled.lay_out(model.parameters, model.dtype)
    training_pass = compiled.training_pass(model, x)
    prediction = training_pass.forward(model, x, compiled.arena)
    with compiled.loss_arena:
        loss, gradient = compiled.loss.reduced(y, prediction, weight)
    if flat.regularized:
        loss += sum(parameter.penalty() for parameter in flat.regularized)
    if loss - loss != 0:  # NaN and infinity alone
        raise FloatingPointError(_diagnosis(model, x, loss))
    training_pass.backward(gradient, compiled.arena)
    for parameter in flat.regularized:
        parameter.add_penalty_gradient()
    compiled.optimizer.apply(flat.trained_values, flat.trained_gradients, flat.trained_sizes)
    for parameter in flat.constrained:
        parameter.constrain()
    return loss, prediction


def train_epoch(
    model: Sequential,
    compiled: Compiled,
    data: Batches,
    order: np.random.Generator | None,
    callbacks: CallbackList,
) -> Logs:
    """Make a step for each batch; return the mean loss and the metrics.

    Parameters
    ----------
    order : numpy.random.Generator or None
        What shuffles the data, if anything does.
    """
    tally = Tally(compiled.metrics)
    arena = compiled.arena
    begin = callbacks.hooks("on_train_batch_begin")
    end = callbacks.hooks("on_train_batch_end")
    for batch, (x, y, weight) in enumerate(data.batches(order)):
        for hook in begin:
            hook(batch, None)
        with arena:
            try:
                loss, prediction = train_step(model, compiled, x, y, weight)
            except FloatingPointError as error:
                raise FloatingPointError(f"batch {batch + 1}: {error}") from error
            tally.add(loss, y, prediction)
        if end:
            logs = tally.logs()
            for hook in end:
                hook(batch, logs)
            if model.stop_training:
                break
    return tally.logs()


def test_epoch(model: Sequential, compiled: Compiled, data: Batches, callbacks: CallbackList, arena: Arena) -> Logs:
    """Return the mean loss and the metrics, changing nothing."""
    tally = Tally(compiled.metrics)
    begin = callbacks.hooks("on_test_batch_begin")
    end = callbacks.hooks("on_test_batch_end")
    callbacks.call("on_test_begin", None)
    penalty = sum(parameter.penalty() for parameter in model.parameters if parameter.trainable)
    for batch, (x, y, weight) in enumerate(data.batches()):
        for hook in begin:
            hook(batch, None)
        with arena:
            prediction = model(x)
            loss, _ = compiled.loss.reduced(y, prediction, weight)
            tally.add(loss + penalty, y, prediction)
        for hook in end:
            hook(batch, tally.logs())
    logs = tally.logs()
    callbacks.call("on_test_end", logs)
    return logs


def predict(model: Sequential, x: Array, batch_size: int, shape: tuple[int, ...], callbacks: CallbackList) -> Array:
    """Return the outputs, of that shape, for all of `x`.

    The arena is the call's own, so that threads may predict at once.
    """
    dtype = model.dtype
    outputs = np.empty((len(x), *shape), dtype)
    if len(x) <= batch_size and not callbacks.callbacks:  # nothing is made twice, and nobody looks
        outputs[...] = model(x.astype(dtype, copy=False))
        return outputs
    arena = Arena()
    begin = callbacks.hooks("on_predict_batch_begin")
    end = callbacks.hooks("on_predict_batch_end")
    callbacks.call("on_predict_begin", None)
    for batch, start in enumerate(range(0, len(x), batch_size)):
        for hook in begin:
            hook(batch, None)
        with arena:
            part = x[start : start + batch_size].astype(dtype, copy=False)
            outputs[start : start + batch_size] = model(part)
        for hook in end:
            hook(batch, {"outputs": outputs[start : start + batch_size]})
    callbacks.call("on_predict_end", None)
    return outputs


def _diagnosis(model: Sequential, x: Array, loss: float) -> str:
    """Name the first thing in the model that is not finite."""
    found = f"expected a finite loss; received {loss}"
    if not np.isfinite(x).all():
        return f"{found}: the input holds NaN or infinity"
    for layer in model.layers:
        if not all(np.isfinite(parameter.value).all() for parameter in layer.parameters):
            return (
                f"{found}: the parameters of {layer.name!r} are not finite any more: a smaller "
                "learning rate, or data scaled to about 1, may help"
            )
        x = layer.forward(x)[0]
        if not np.isfinite(x).all():
            return f"{found}: {layer.name!r} is the first layer whose output is not finite"
    return f"{found}: every layer's output is finite, so look at the targets and weights"
