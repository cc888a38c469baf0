"""What ``fit`` shows: a bar where tqdm is installed and somebody looks, else a line an epoch."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Any

from .hooks import Callback, Logs

REFRESH = 0.1
"""Seconds between two updates of the numbers behind a bar."""


def figures(logs: Logs | None) -> str:
    """Return ``"loss 0.1234, accuracy 0.9876"``.

    Examples
    --------
    >>> figures({"loss": 0.12345})
    'loss 0.1235'
    """
    return ", ".join(f"{key} {value:.4g}" for key, value in (logs or {}).items())


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(0.25), duration(75), duration(4000)
    ('0.2 s', '1:15', '1:06:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressLines(Callback):
    """Print a line an epoch: time, images a second, loss, metrics and the time left."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start the clock."""
        self._start = time.perf_counter()
        self._first: int | None = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the first epoch, from which the time left is reckoned."""
        if self._first is None:
            self._first = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Print the line."""
        epochs, seconds = self.params["epochs"], self.model.history.seconds[-1]
        done = epoch + 1 - (self._first or 0)
        left = (time.perf_counter() - self._start) / done * (epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{epochs}: {duration(seconds)}, "
            f"{self.params['samples'] / seconds:,.0f} images/s, {figures(logs)}"
            + (f", {duration(left)} left" if left else ""),
            flush=True,
        )


class ProgressBar(Callback):
    """Show a bar an epoch, with images a second, the time left, loss and metrics.

    Needs tqdm: ``pip install "fastconv[progress]"``.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError('a progress bar needs tqdm: pip install "fastconv[progress]"') from error
        self._tqdm: Any = tqdm
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Open the epoch's bar."""
        self._bar = self._tqdm(
            total=self.params["samples"],
            desc=f"epoch {epoch + 1}/{self.params['epochs']}",
            unit=" images",
        )
        self._next = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance by a batch."""
        self._bar.update(min(self.params["batch_size"], self.params["samples"] - self._bar.n))
        if time.perf_counter() > self._next:
            self._bar.set_postfix_str(figures(logs), refresh=False)
            self._next = time.perf_counter() + REFRESH

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Leave the bar with the epoch's numbers."""
        self._bar.set_postfix_str(figures(logs))
        self.close()

    def close(self) -> None:
        """Close a bar that an exception left open."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress(verbose: str | int) -> Callback | None:
    """Return what shows the progress, or None for silence.

    Parameters
    ----------
    verbose : "auto", 0, 1 or 2
        Nothing for 0, lines for 2, a bar for 1 if tqdm is installed; "auto" takes the bar where
        the standard error is a terminal.
    """
    check_verbose(verbose)
    if verbose == 0:
        return None
    watched = verbose == 1 or (verbose == "auto" and sys.stderr.isatty())
    return ProgressBar() if watched and find_spec("tqdm") else ProgressLines()


def check_verbose(verbose: str | int) -> None:
    """Refuse anything but "auto", 0, 1 and 2."""
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f'expected verbose to be "auto", 0, 1 or 2; received {verbose!r}')
