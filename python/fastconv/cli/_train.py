"""``fastconv train``: data, network, fit, test accuracy, and the speed beside plain NumPy's."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from ..data import Images, Labels
from ..models import MODELS
from ..numpy_baseline import NumpyTrainer
from ..optimizers import Optimizer
from ..training import Sequential
from . import _options
from ._decay import CosineDecay
from ._evaluate import accuracy_line
from ._options import DEFAULT_METHOD, METHODS, OTHER_RECIPE, RECIPES, UsageError, threads_in_use
from ._predict import predict_labels
from ._sources import build_model, load_data

COMPARISON_SECONDS, MIN_STEPS = 1.0, 3  # what plain NumPy is given to show its speed
LOSS = "sparse_categorical_crossentropy"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a network and measure it",
        description="Train a network, then print its accuracy on images it has not seen and the "
        "images a second, with those of the same training steps in plain NumPy beside them.",
        epilog="FILE.py defines model, a fastconv.Sequential, or build_model(input_shape, classes) "
        "that returns one; its last layer has one output a class. If it is compiled, it keeps its "
        "own optimizer and loss, unless --optimizer or --lr is given.",
    )
    _options.add_data(parser)
    parser.add_argument(
        "--model",
        metavar=f"{'|'.join(MODELS)}|FILE.py",
        default="lenet5",
        help="network (default: lenet5)",
    )
    defaults = ", ".join(f"{recipe.epochs} for {name}" for name, recipe in RECIPES.items())
    parser.add_argument(
        "--epochs",
        metavar="N",
        type=_options.positive_int,
        help=f"times each image is seen (default: {defaults}, else {OTHER_RECIPE.epochs})",
    )
    defaults = ", ".join(f"{recipe.batch_size} for {name}" for name, recipe in RECIPES.items())
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=_options.positive_int,
        help=f"images a step (default: {defaults}, else {OTHER_RECIPE.batch_size})",
    )
    parser.add_argument("--optimizer", choices=METHODS, help=f"update rule (default: {DEFAULT_METHOD})")
    rates = ", ".join(f"{method.learning_rate:g} for {name}" for name, method in METHODS.items())
    parser.add_argument(
        "--lr",
        metavar="RATE",
        type=_options.positive_float,
        help=f"learning rate at the start, lowered to 0 along half a cosine (default: {rates})",
    )
    _options.add_threads(parser)
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_options.seed,
        help="of the first weights and the shuffling; the same seed gives the same network, with "
        "any number of threads (default: 0)",
    )
    parser.add_argument("--save", metavar="FILE.npz", help="write the trained network there")
    return parser


def run(options: argparse.Namespace) -> None:
    """Train as the options say."""
    _check_save(options.save)
    (x, y), (x_test, y_test) = load_data(options)
    classes = 1 + int(max(y.max(initial=0), y_test.max(initial=0)))
    print(f"data       {options.data}: {_describe(x, x_test, classes)}")

    model = build_model(options.model, x.shape[1:], classes, options.seed)
    optimizer = _compile(model, options)
    parameters = sum(parameter.value.size for parameter in model.parameters)
    print(f"model      {options.model}: {parameters:,} parameters, {optimizer}", flush=True)

    recipe = RECIPES.get(options.data, OTHER_RECIPE)
    batch_size = options.batch_size or recipe.batch_size
    epochs = options.epochs or recipe.epochs
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, callbacks=[CosineDecay(optimizer)])
    print(accuracy_line(predict_labels(model, x_test), y_test))
    if options.save is not None:
        model.save(options.save)
        print(f"saved      {options.save}", flush=True)
    print(_compare(model, x, y, batch_size, history.seconds))


def _check_save(path: str | None) -> None:
    """Refuse a place that cannot be written before the training, not after it."""
    if path is None:
        return
    if Path(path).suffix != ".npz":
        raise UsageError(f"--save: expected a name that ends in .npz; received {path!r}")
    folder = Path(path).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--save: expected a folder that can be written; received {folder}")


def _describe(x: Images, x_test: Images, classes: int) -> str:
    shape = " x ".join(map(str, x.shape[1:]))
    return f"{len(x):,} training and {len(x_test):,} test images of {shape}, {classes} classes"


def _compile(model: Sequential, options: argparse.Namespace) -> Optimizer:
    if model.optimizer is not None and options.optimizer is None and options.lr is None:
        return model.optimizer
    method = METHODS[options.optimizer or DEFAULT_METHOD]
    rate = options.lr or method.learning_rate
    optimizer = method.optimizer(learning_rate=rate, **method.options)
    model.compile(optimizer=optimizer, loss=LOSS, metrics=["accuracy"])
    return optimizer


def _compare(model: Sequential, x: Images, y: Labels, batch_size: int, seconds: list[float]) -> str:
    """Set the training's own speed, `seconds` an epoch, beside that of the same steps in plain NumPy.

    NumPy runs after the training and alone: its matrix products keep every core busy for a while.
    """
    try:
        baseline = NumpyTrainer(model)
    except NotImplementedError as error:
        return f"speed      not compared: {error}"
    deadline = time.perf_counter() + COMPARISON_SECONDS
    samples: list[float] = []  # seconds an image
    while len(samples) < MIN_STEPS or time.perf_counter() < deadline:
        start = time.perf_counter()
        first = len(samples) * batch_size % len(x)
        batch = x[first : first + batch_size]
        baseline.train_on_batch(batch, y[first : first + batch_size])
        samples.append((time.perf_counter() - start) / len(batch))
    fast, plain = median(seconds) / len(x), median(samples)
    return (
        f"speed      fastconv {1 / fast:,.0f} images/s, plain NumPy {1 / plain:,.0f} images/s: "
        f"{plain / fast:.1f} times as fast\n"
        f"           (fastconv's median of {len(seconds)} epochs, shuffling included, with {threads_in_use()}; "
        f"NumPy's median of {len(samples)} training steps of the same batch size)"
    )
