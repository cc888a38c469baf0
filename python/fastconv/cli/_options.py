"""Options that several commands share, the kinds of value they take, and every default."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from .. import optimizers
from .._threads import get_num_threads, num_threads


class UsageError(Exception):
    """A mistake in the command line itself, as opposed to a failure to do what it asks."""


class Recipe(NamedTuple):
    """How long to train on a data set, unless options say otherwise."""

    epochs: int
    batch_size: int


RECIPES = {"digits": Recipe(epochs=30, batch_size=64), "mnist": Recipe(epochs=3, batch_size=64)}
OTHER_RECIPE = Recipe(epochs=10, batch_size=32)


class Method(NamedTuple):
    """An optimizer by the name users type, with the options and rate that suit LeNet-5."""

    optimizer: type[optimizers.Optimizer]
    learning_rate: float
    options: dict[str, Any]


METHODS = {
    "adam": Method(optimizers.Adam, 0.004, {}),
    "sgd": Method(optimizers.SGD, 0.1, {}),
    "momentum": Method(optimizers.SGD, 0.02, {"momentum": 0.9}),
    "nesterov": Method(optimizers.SGD, 0.02, {"momentum": 0.9, "nesterov": True}),
}
DEFAULT_METHOD = "adam"
EVALUATION_BATCH_SIZE = 256


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, a data set with labels, and ``--data-dir``."""
    parser.add_argument(
        "--data",
        metavar="digits|mnist|FILE.npz",
        default="digits",
        help="data set: scikit-learn's digits, MNIST (or Fashion-MNIST or KMNIST in --data-dir), "
        "or an archive with x_train, y_train, x_test, y_test or with x, y (default: digits)",
    )
    add_data_dir(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of MNIST's four files (default: the one that FASTCONV_DATA names)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive_int,
        help="threads to use (default: one for each core this process may use)",
    )


@contextmanager
def chosen_threads(options: argparse.Namespace) -> Iterator[None]:
    """Run a command with as many threads as ``--threads`` says, if the command has it."""
    threads = getattr(options, "threads", None)
    with ExitStack() as stack:
        if threads is not None:
            try:
                stack.enter_context(num_threads(threads))
            except ValueError as error:
                raise UsageError(f"--threads: {error}") from error
        yield


def threads_in_use() -> str:
    """Return ``"2 threads"``."""
    count = get_num_threads()
    return f"{count} thread{'s' * (count > 1)}"


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch-size`` for commands that only run the model forward."""
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=positive_int,
        default=EVALUATION_BATCH_SIZE,
        help="images at a time (default: %(default)s)",
    )


def positive_int(text: str) -> int:
    """Read an integer of at least 1."""
    return _integer(text, at_least=1)


def seed(text: str) -> int:
    """Read an integer of at least 0."""
    return _integer(text, at_least=0)


def _integer(text: str, at_least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = at_least - 1
    if value < at_least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {at_least}; received {text!r}")
    return value


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; received {text!r}")
    return value
