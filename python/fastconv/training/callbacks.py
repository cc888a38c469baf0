"""Callbacks ready to use: the history, early stopping, learning rates, checkpoints, plain functions, a progress bar.

They see a training from outside through the hooks of `Callback`, as in Keras.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from .._validation import Array
from ..optimizers import Optimizer
from .hooks import Callback, Logs
from .progress import ProgressBar

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
]


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


class _Monitor(Callback):
    """Base of callbacks that watch one number of the logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"expected mode 'auto', 'min' or 'max'; received {mode!r}")
        if mode == "auto":
            mode = "max" if monitor.endswith(("accuracy", "acc", "auc", "precision", "recall", "score")) else "min"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self._reset()

    def _reset(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf

    def _current(self, logs: Logs | None) -> float:
        """Return the number watched."""
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"expected monitor to be one of {', '.join(map(repr, logs))}; received "
                f"{self.monitor!r}: names with 'val_' need validation_data or validation_split"
            )
        return float(logs[self.monitor])

    def _better(self, value: float, reference: float) -> bool:
        if self.mode == "min":
            return value < reference - self.min_delta
        return value > reference + self.min_delta


class EarlyStopping(_Monitor):
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
        Whether less or more is better; "auto" takes more for names that end in ``accuracy``, ``auc``,
        ``precision``, ``recall`` or ``score``.
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
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that one object serves several trainings."""
        self.wait = 0
        self.stopped_epoch = self.best_epoch = 0
        self._reset()
        self._best_weights: list[Array] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the best so far."""
        current = self._current(logs)
        if epoch < self.start_from_epoch:
            return
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


class ReduceLROnPlateau(_Monitor):
    """Lower the learning rate when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A key of the logs.
    factor : float between 0 and 1, default 0.1
        What the rate is multiplied by.
    patience : int, default 10
        Epochs without improvement to wait for.
    verbose : int, default 0
        1 prints a line when the rate falls.
    mode
        As in `EarlyStopping`.
    min_delta : float, default 0.0001
        Smaller changes are no improvement.
    cooldown : int, default 0
        Epochs to let pass after a fall before waiting begins again.
    min_lr : float, default 0
        The rate falls no further.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 0.0001,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"expected factor to lie between 0 and 1; received {factor!r}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that one object serves several trainings."""
        _fixed_rate(self)
        self._reset()
        self.wait = self.resting = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the best so far, and lower the rate if the patience is at its end."""
        current = self._current(logs)
        optimizer = _optimizer(self)
        if self.resting:
            self.resting -= 1
            self.wait = 0
        if self._better(current, self.best):
            self.best, self.wait = current, 0
        elif not self.resting:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.wait, self.resting = 0, self.cooldown
                if self.verbose:
                    print(f"epoch {epoch + 1}: learning rate {optimizer.learning_rate:g}")


class LearningRateScheduler(Callback):
    """Set the learning rate at the beginning of each epoch. For a rate of each step, see `fastconv.schedules`.

    Parameters
    ----------
    schedule : callable
        Takes the epoch, counted from 0, and the rate, and returns the new rate.
    verbose : int, default 0
        1 prints each rate.
    """

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"expected schedule to be a function of epoch and rate; received {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Refuse an optimizer whose rate has a schedule of its own."""
        _fixed_rate(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the epoch's rate."""
        optimizer = _optimizer(self)
        optimizer.learning_rate = self.schedule(epoch, optimizer.learning_rate)
        if self.verbose:
            print(f"epoch {epoch + 1}: learning rate {optimizer.learning_rate:g}")


class ModelCheckpoint(_Monitor):
    """Write the model, or its weights, after epochs.

    Parameters
    ----------
    filepath : str or path-like
        May hold ``{epoch}``, counted from 1, and keys of the logs: ``"net-{epoch:02d}-{val_loss:.3f}.npz"``.
    monitor : str, default "val_loss"
        What makes an epoch the best.
    verbose : int, default 0
        1 prints a line when a file is written.
    save_best_only : bool, default False
        Write only where `monitor` has improved.
    save_weights_only : bool, default False
        Write what `Sequential.load_weights` reads, not what `load_model` does.
    mode
        As in `EarlyStopping`.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a file, if this epoch deserves one."""
        if self.save_best_only:
            current = self._current(logs)
            if not self._better(current, self.best):
                return
            self.best = current
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except KeyError as error:
            known = ", ".join(map(repr, logs or {}))
            raise ValueError(f"expected filepath to name 'epoch' or one of {known}; received {error}") from None
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"epoch {epoch + 1}: wrote {path}")


def _optimizer(callback: Callback) -> Optimizer:
    compiled = callback.model.compiled
    assert compiled is not None  # fit has asked for it
    return compiled.optimizer


def _fixed_rate(callback: Callback) -> None:
    """Refuse an optimizer whose rate has a schedule of its own: two would fight over it."""
    rate = _optimizer(callback).get_config()["learning_rate"]
    if not isinstance(rate, float):
        name = type(callback).__name__
        raise ValueError(f"expected an optimizer with a plain learning rate for {name}; received {rate['class_name']}")
