"""What ``--data`` and ``--model`` name, turned into arrays and a network."""

from __future__ import annotations

import argparse
import errno
import os
import runpy
import traceback
from pathlib import Path
from typing import Any

from .. import data
from ..models import MODELS
from ..training import Sequential
from ._options import UsageError


def load_data(arguments: argparse.Namespace) -> data.Split:
    """Load the data set that ``--data`` and ``--data-dir`` name."""
    name: str = arguments.data
    if arguments.data_dir is not None and name != "mnist":
        raise UsageError(f"--data-dir goes with --data mnist; received --data {name}")
    if name == "digits":
        return data.load_digits()
    if name == "mnist":
        return data.load_mnist(arguments.data_dir)
    if Path(name).suffix != ".npz":
        raise UsageError(f"--data: expected digits, mnist or a .npz file; received {name!r}")
    return data.load_npz(name)


def load_test_images(arguments: argparse.Namespace) -> data.Images:
    """Load the images of ``--data``: a data set's test images, or those of a file."""
    if arguments.data in ("digits", "mnist"):
        return load_data(arguments)[1][0]
    if arguments.data_dir is not None:
        raise UsageError(f"--data-dir goes with --data mnist; received --data {arguments.data}")
    return data.load_images(arguments.data)


def build_model(name: str, input_shape: tuple[int, ...], classes: int, seed: int | None) -> Sequential:
    """Build the network of that name, or the one that a file FILE.py defines.

    The file defines ``model``, a `Sequential`, or ``build_model(input_shape, classes)``, which
    returns one.
    """
    if name in MODELS:
        return MODELS[name](input_shape, classes, seed=0 if seed is None else seed)
    if Path(name).suffix != ".py":
        raise UsageError(f"--model: expected {', '.join(MODELS)} or a .py file; received {name!r}")
    if seed is not None:
        raise UsageError(
            f"--seed goes with --model {' or '.join(MODELS)}; write Sequential(..., seed={seed}) in {name}"
        )
    model = _run_model_file(name, input_shape, classes)
    if not isinstance(model, Sequential):
        raise ValueError(
            f"expected {name} to define model, a Sequential, or build_model(input_shape, classes) "
            f"that returns one; received {model!r}"
        )
    if not model.built:
        model.build(input_shape)
    outputs = model.compute_output_shape(input_shape)
    if len(outputs) != 1 or outputs[0] < classes:
        raise ValueError(
            f"expected the network of {name} to have an output for each of the {classes} classes; "
            f"received output shape {outputs}"
        )
    return model


def _run_model_file(name: str, input_shape: tuple[int, ...], classes: int) -> Any:
    if not Path(name).is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    try:
        names = runpy.run_path(name, run_name="fastconv_model")
        builder = names.get("build_model")
        return names.get("model") if builder is None else builder(input_shape, classes)
    except Exception as error:
        # The file is the user's own program: whatever it raises is news for the user, in one line.
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = name if line is None else f"{name}, line {line}"
        raise ValueError(f"{place}: {type(error).__name__}: {error}") from error
