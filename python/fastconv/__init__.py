"""Convolution, pooling and dense kernels for NumPy arrays, and a small trainer on top.

Functions on arrays have PyTorch's names and semantics (NCHW, OIHW); layers, training and callbacks have
Keras's names.

>>> import numpy as np
>>> import fastconv as fc
>>> x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
>>> fc.conv2d(x, weight, padding="same")[0, 0]
array([[4., 6., 4.],
       [6., 9., 6.],
       [4., 6., 4.]], dtype=float32)
"""

import sys

from fastconv import data, graph, initializers, layers, losses, metrics, models, optimizers, regularizers, schedules
from fastconv._algorithm import get_algorithm, set_algorithm
from fastconv._dispatch import build_info as _build_info
from fastconv._threads import get_num_threads, num_threads, set_num_threads
from fastconv.gradcheck import gradcheck
from fastconv.layers import (
    Activation,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    Input,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Softmax,
)
from fastconv.ops import (
    avg_pool2d,
    avg_pool2d_backward,
    col2im,
    conv2d,
    conv2d_backward,
    dense,
    dense_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    im2col,
    leaky_relu,
    leaky_relu_backward,
    max_pool2d,
    max_pool2d_backward,
    pool2d,
    pool2d_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    tanh,
    tanh_backward,
)
from fastconv.training import Sequential, callbacks, load_model

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "AvgPool2D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "Input",
    "LeakyReLU",
    "MaxPool2D",
    "ReLU",
    "Sequential",
    "Softmax",
    "avg_pool2d",
    "avg_pool2d_backward",
    "callbacks",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "data",
    "dense",
    "dense_backward",
    "get_algorithm",
    "get_num_threads",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "gradcheck",
    "graph",
    "im2col",
    "initializers",
    "layers",
    "leaky_relu",
    "leaky_relu_backward",
    "load_model",
    "losses",
    "max_pool2d",
    "max_pool2d_backward",
    "metrics",
    "models",
    "num_threads",
    "optimizers",
    "pool2d",
    "pool2d_backward",
    "regularizers",
    "relu",
    "relu_backward",
    "schedules",
    "set_algorithm",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
]

# `import fastconv.callbacks` works as `fastconv.callbacks` does.
sys.modules["fastconv.callbacks"] = callbacks


def show_config() -> None:
    """Print which build of the kernels runs, with how many threads, built by which compiler.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.show_config()
    fastconv:    ...
    isa:         ...
    """
    for name, value in {"fastconv": __version__, **_build_info(), "threads": get_num_threads()}.items():
        print(f"{name + ':':<13}{value}")
