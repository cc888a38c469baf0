"""The hooks of a training, Keras's, and the list that calls them.

``fit`` finds out once which hooks a callback overrides and calls those alone: a training step at
which nobody looks pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .model import Sequential

Logs: TypeAlias = dict[str, Any]


class Callback:
    """Base class: override the hooks you need.

    Attributes
    ----------
    model : Sequential
        The model in training, set before the first hook.
    params : dict
        ``epochs``, ``steps`` (batches an epoch), ``samples``, ``batch_size`` and ``verbose``.

    Notes
    -----
    `logs` holds ``"loss"`` and the metrics over the epoch so far, and at an epoch's end the same
    of the validation data, named ``"val_..."``. What a callback adds there, the history keeps.

    Examples
    --------
    >>> class StopAtLoss(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.model.stop_training = logs["loss"] < 0.01
    """

    model: Sequential
    params: Mapping[str, Any]

    def set_model(self, model: Sequential) -> None:
        """Take the model that is about to be trained."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take the parameters of the training about to begin."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Do something before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Do something after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Do something before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Do something after an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Do something before a training step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Do something after a training step."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Do something before an evaluation or a validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Do something after an evaluation or a validation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Do something before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Do something after a batch of an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Do something before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Do something after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Do something before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Do something after a batch of a prediction."""


class CallbackList:
    """Callbacks, and for each hook the methods that somebody wrote.

    Parameters
    ----------
    callbacks : Callback, iterable of Callback or None
        The user's.
    model : Sequential
    params : mapping
    own : iterable of Callback
        The training's own, which come after the user's.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None,
        model: Sequential,
        params: Mapping[str, Any],
        own: Iterable[Callback] = (),
    ) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) else callbacks or ()
        self.callbacks = [*given, *own]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"expected callbacks to be Callback objects; received {callback!r}")
            callback.set_params(params)
            callback.set_model(model)

    def hooks(self, name: str) -> list[Callable[..., None]]:
        """Return the bound methods of that name which callbacks override, in their order."""
        if not self.callbacks:
            return []
        inherited = getattr(Callback, name)
        methods = [getattr(callback, name) for callback in self.callbacks]
        return [method for method in methods if getattr(method, "__func__", None) is not inherited]

    def call(self, name: str, *arguments: Any) -> None:
        """Call every hook of that name."""
        for hook in self.hooks(name):
            hook(*arguments)
