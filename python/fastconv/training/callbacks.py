"""Callbacks ready to use: the history, early stopping, plain functions, a progress bar.

They see a training from outside through the hooks of `Callback`, as in Keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .._validation import Array
from .hooks import Callback, Logs
from .progress import ProgressBar

__all__ = ["Callback", "EarlyStopping", "History", "LambdaCallback", "ProgressBar"]


class History(Callback):
    """What happened in each epoch; ``fit`` returns it, and keeps it as ``model.history``.

    Attributes
    ----------
    epoch : list of int
    history : dict of str to list of float
        ``"loss"``, the metrics, and ``"val_loss"`` and so on, one number an epoch.
    seconds : list of float
        Time spent on training in each epoch, without validation.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.seconds: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's numbers."""
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(value)


class LambdaCallback(Callback):
    """A callback from functions.

    Parameters
    ----------
    **hooks : callable
        Functions named as the hooks of `Callback`, with their arguments.

    Examples
    --------
    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> callback.on_epoch_end(0, {"loss": 0.5})
    0 {'loss': 0.5}
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                known = [hook for hook in dir(Callback) if hook.startswith("on_")]
                raise ValueError(f"expected a hook, one of {', '.join(known)}; received {name!r}")
            if not callable(function):
                raise TypeError(f"expected {name} to be a function; received {function!r}")
            setattr(self, name, function)


class EarlyStopping(Callback):
    """Stop when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A key of the logs.
    min_delta : float, default 0
        Smaller changes are no improvement.
    patience : int, default 0
        Epochs without improvement to wait for.
    verbose : int, default 0
        1 prints a line when training stops.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" takes more for names that end in ``accuracy``.
    baseline : float, optional
        Value to reach before anything counts as an improvement.
    restore_best_weights : bool, default False
        Return to the weights of the best epoch when training ends, stopped early or not.
    start_from_epoch : int, default 0
        Epochs to let pass first.

    Attributes
    ----------
    stopped_epoch, best_epoch : int
    best : float

    Examples
    --------
    >>> EarlyStopping("val_accuracy", patience=3).mode
    'max'
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"expected mode 'auto', 'min' or 'max'; received {mode!r}")
        if mode == "auto":
            mode = "max" if monitor.endswith(("accuracy", "acc")) else "min"
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that one object serves several trainings."""
        self.wait = 0
        self.stopped_epoch = self.best_epoch = 0
        self.best = math.inf if self.mode == "min" else -math.inf
        self._best_weights: list[Array] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the best so far."""
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"expected monitor to be one of {', '.join(map(repr, logs))}; received "
                f"{self.monitor!r}: names with 'val_' need validation_data or validation_split"
            )
        if epoch < self.start_from_epoch:
            return
        current = logs[self.monitor]
        self.wait += 1
        if self._better(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self._better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                print(
                    f"stopped after epoch {epoch + 1}: {self.monitor} was best in epoch "
                    f"{self.best_epoch + 1}, {self.best:.4g}"
                )

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights."""
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)

    def _better(self, value: float, reference: float) -> bool:
        if self.mode == "min":
            return value < reference - self.min_delta
        return value > reference + self.min_delta
