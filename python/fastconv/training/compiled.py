"""What ``compile`` settles: optimizer, loss and metrics, and how the loss reads the predictions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import losses, metrics, optimizers
from .._call import Arena
from .._threads import get_num_threads
from .._validation import Array
from ..layers import Layer, Stack
from ..layers.parameter import FlatParameters, Parameter
from ..layers.replay import KEPT, TrainingPass


class Compiled:
    """The parts of a training, resolved from what users typed.

    Parameters
    ----------
    model : Stack
        Its last layer decides whether a cross-entropy reads logits.
    optimizer, loss
        A name, a class or an object.
    requested : sequence of str or Metric

    Attributes
    ----------
    requested : list
        Metrics as users asked for them; `metrics` holds what they mean.
    arena, loss_arena : Arena
        Memory of a training step, and of its loss.
    flat : FlatParameters
        The model's parameters, laid out at the first step.
    """

    def __init__(self, model: Stack, optimizer: Any, loss: Any, requested: Any) -> None:
        self.optimizer = optimizers.get(optimizer)
        self.loss = _reading(losses.get(loss), model)
        if self.loss.reduction == "none":
            raise ValueError(
                f"expected a loss of one number to train with; received {self.loss!r}: leave reduction out, "
                "or take 'sum'"
            )
        if requested is None:
            requested = ()
        if isinstance(requested, str) or not isinstance(requested, Sequence):
            raise TypeError(f"expected metrics to be a list; received {requested!r}")
        self.requested = list(requested)
        for metric in self.requested:
            if metric not in metrics.ACCURACY:
                metrics.get(metric)
        self.metrics: list[metrics.Metric] = []
        if model.output_shape is not None:
            self.resolve_metrics(model.output_shape)
        self._trained: list[bool] | None = None
        self.forget_memory()

    def forget_memory(self) -> None:
        """Let go of arena and layout; the next step makes them anew."""
        self.arena = Arena()
        self.loss_arena = Arena()
        self._passes: dict[Any, TrainingPass] = {}
        self.flat = FlatParameters((), np.dtype(np.float32))
        self.flat.current = False

    def training_pass(self, model: Stack, x: Array) -> TrainingPass:
        """Return the pass for a batch like that one: its recording, where nothing has changed since."""
        key = x.shape, get_num_threads()
        kept = self._passes.get(key)
        if kept is None or not kept.is_current():
            if len(self._passes) >= KEPT:
                self._passes.clear()
            kept = self._passes[key] = TrainingPass(model)
        return kept

    def resolve_metrics(self, output_shape: tuple[int, ...]) -> None:
        """Find what each requested metric means for the loss and this output."""
        self.metrics = []
        for requested in self.requested:
            if requested in metrics.ACCURACY:
                metric = metrics.accuracy_for(self.loss, output_shape)
                metric.name = requested
            else:
                metric = metrics.get(requested)
                if requested == "binary_accuracy" and self.from_logits:
                    metric = metrics.BinaryAccuracy(threshold=0.0)
                elif metric.from_logits is None:
                    metric = copy.copy(metric)
                    metric.from_logits = self.from_logits
            self.metrics.append(metric)

    @property
    def from_logits(self) -> bool:
        """True if the loss is a cross-entropy of logits."""
        return isinstance(self.loss, losses.CrossEntropy) and bool(self.loss.from_logits)

    def lay_out(self, parameters: list[Parameter], dtype: np.dtype[Any]) -> FlatParameters:
        """Lay the parameters end to end, at the first step and after another model took them."""
        trained = [parameter.trainable for parameter in parameters]
        if self._trained not in (None, trained) and self.optimizer.state:
            raise RuntimeError(
                "expected a model compiled after its last change of `trainable`: call compile() "
                "again, so that the optimizer's state fits the parameters it moves"
            )
        self._trained = trained
        self.flat = FlatParameters(parameters, dtype)
        return self.flat


def _reading(loss: losses.Loss, model: Stack) -> losses.Loss:
    """Return the loss with its `from_logits` set from the model's last layer."""
    if not isinstance(loss, losses.CrossEntropy):
        return loss
    ends_in = next((layer.activation for layer in _from_the_end(model)), None)
    normalised = ends_in == loss.activation
    if loss.from_logits is None:
        loss = copy.copy(loss)
        loss.from_logits = not normalised
        _say(loss, ends_in)
    elif loss.from_logits and normalised:
        raise ValueError(
            f"expected a model that ends in logits for {loss!r}; received one that ends in "
            f"{ends_in}: leave from_logits out, compile finds it"
        )
    return loss


def _from_the_end(stack: Stack) -> Iterator[Layer]:
    """Layers that change values, last first, nested ones included."""
    for layer in reversed(stack.layers):
        if isinstance(layer, Stack):
            yield from _from_the_end(layer)
        elif not layer.keeps_values:
            yield layer


def _say(loss: losses.CrossEntropy, ends_in: str | None) -> None:
    import logging

    logging.getLogger("fastconv").info(
        "%s takes %s: the model ends in %s",
        type(loss).__name__,
        "logits" if loss.from_logits else "probabilities",
        ends_in or "no activation",
    )
