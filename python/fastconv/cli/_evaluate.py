"""``fastconv evaluate``: how well a saved network does on a data set's test images."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from ..data import Labels
from ..training import load_model
from . import _options
from ._predict import predict_labels
from ._sources import load_data


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="measure a saved network",
        description="Print the accuracy of a saved network on a data set's test images.",
    )
    parser.add_argument("model", metavar="MODEL.npz", help="network that train --save wrote")
    _options.add_data(parser)
    _options.add_batch_size(parser)
    _options.add_threads(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Evaluate as the options say."""
    _, (x, y) = load_data(options)
    print(accuracy_line(predict_labels(load_model(options.model), x, options.batch_size), y))


def accuracy_line(predicted: Labels, y: Labels) -> str:
    """Say how many predictions are right."""
    right = int(np.count_nonzero(predicted == y))
    return f"accuracy   {right / len(y):.2%} of the test images ({right:,} of {len(y):,})"
