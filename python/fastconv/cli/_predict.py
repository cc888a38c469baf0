"""``fastconv predict``: the class of each image, one a line, or into a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Images, Labels
from ..training import Sequential, load_model
from . import _options
from ._options import EVALUATION_BATCH_SIZE, UsageError
from ._sources import load_test_images


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="print the class of each image",
        description="Print the class that a saved network gives each image, one a line.",
    )
    parser.add_argument("model", metavar="MODEL.npz", help="network that train --save wrote")
    parser.add_argument(
        "--data",
        metavar="digits|mnist|FILE",
        default="digits",
        help="images: the test images of a data set, or a .npy array, a .npz archive with x_test "
        "or x, or an IDX file (default: digits)",
    )
    _options.add_data_dir(parser)
    _options.add_batch_size(parser)
    _options.add_threads(parser)
    parser.add_argument(
        "--output",
        metavar="FILE.npy|FILE.csv",
        help="write the classes there instead: int64 values, or lines of index,label",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Predict as the options say."""
    output = options.output
    if output is not None and Path(output).suffix not in (".npy", ".csv"):
        raise UsageError(f"--output: expected a .npy or .csv file; received {output!r}")
    images = load_test_images(options)
    labels = predict_labels(load_model(options.model), images, options.batch_size)
    if output is None:
        sys.stdout.writelines(f"{label}\n" for label in labels)
    elif Path(output).suffix == ".npy":
        np.save(output, labels)
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write("index,label\n")
            file.writelines(f"{index},{label}\n" for index, label in enumerate(labels))


def predict_labels(model: Sequential, x: Images, batch_size: int = EVALUATION_BATCH_SIZE) -> Labels:
    """Return for each image the class of the largest output."""
    labels: Labels = np.argmax(model.predict(x, batch_size=batch_size, verbose=0), axis=1)
    return labels
