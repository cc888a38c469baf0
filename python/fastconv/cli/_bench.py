"""``fastconv bench``: a few operators against plain NumPy, in a few seconds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import ops, reference
from . import _options
from ._options import threads_in_use
from ._timing import median_seconds

SECONDS_EACH = 0.3


class Case(NamedTuple):
    """One row of the table: an operator of ``ops`` and ``reference``, and its arguments."""

    title: str
    operator: str
    shapes: tuple[tuple[int, ...], ...]
    arguments: tuple[Any, ...] = ()


CASES = (
    Case("LeNet-5's first layer, 5x5", "conv2d", ((64, 1, 28, 28), (6, 1, 5, 5)), (None, 1, 2)),
    Case("LeNet-5's second layer, 5x5", "conv2d", ((64, 6, 14, 14), (16, 6, 5, 5))),
    Case("3x3, 32 to 32 channels", "conv2d", ((16, 32, 32, 32), (32, 32, 3, 3)), (None, 1, 1)),
    Case("1x1, 64 to 128 channels", "conv2d", ((8, 64, 28, 28), (128, 64, 1, 1))),
    Case(
        "its gradients",
        "conv2d_backward",
        ((16, 32, 32, 32), (16, 32, 32, 32), (32, 32, 3, 3)),
        (1, 1),
    ),
    Case("pooling 2x2", "max_pool2d", ((64, 32, 28, 28),), (2,)),
    Case("dense 512 to 128", "dense", ((128, 512), (128, 512))),
    Case("softmax of 10 classes", "softmax", ((1024, 10),)),
)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="time a few operators against plain NumPy",
        description="Time a few operators in float32 against the same in plain NumPy, in turns, "
        "and print the medians. In the repository, python -m bench.kernels and python -m "
        "bench.training measure many shapes and whole networks, against other libraries too.",
    )
    _options.add_threads(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    print(f"Milliseconds a call, float32, fastconv with {threads_in_use()}.")
    row = "{:<28} {:<18} {:>9} {:>9} {:>7}".format
    print(row("", "", "fastconv", "NumPy", "times"))
    for case in CASES:
        calls = {"fastconv": call(ops, case), "numpy": call(reference, case)}
        seconds, _ = median_seconds(calls, SECONDS_EACH)
        fast, plain = seconds["fastconv"], seconds["numpy"]
        print(
            row(
                case.title,
                case.operator,
                f"{1e3 * fast:.3f}",
                f"{1e3 * plain:.3f}",
                f"{plain / fast:.1f}",
            ),
            flush=True,
        )
    print("Many more shapes, and other libraries: python -m bench.kernels in the repository.")


def call(module: Any, case: Case) -> Callable[[], Any]:
    """Return the case's operator of a module, bound to its arguments."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in case.shapes]
    return partial(getattr(module, case.operator), *arrays, *case.arguments)
