"""Every operator in plain NumPy: the oracle of the tests and the baseline of the benchmarks.

Each function has the name, parameters and meaning of its compiled twin in ``fastconv.ops``, whose
docstring describes them; here stands the formula. Forward and backward are neighbours. The code
computes in the dtype it is given, so float64 inputs make a float64 oracle of a float32 kernel. It
imports NumPy alone and does its own size arithmetic: nothing it checks can share its mistakes.
It validates nothing.
"""

from ._windows import col2im, im2col
from .activation import (
    activation_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from .convolution import conv2d, conv2d_backward, dense, dense_backward
from .normalization import softmax, softmax_backward, softmax_cross_entropy
from .pooling import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2x2,
    max_pool2x2_backward,
    pool2d,
    pool2d_backward,
)
from .update import (
    adadelta_update,
    adagrad_update,
    adam_update,
    nadam_update,
    rmsprop_update,
    sgd_update,
)

__all__ = [
    "activation_backward",
    "adadelta_update",
    "adagrad_update",
    "adam_update",
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "leaky_relu",
    "leaky_relu_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2x2",
    "max_pool2x2_backward",
    "nadam_update",
    "pool2d",
    "pool2d_backward",
    "relu",
    "relu_backward",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
]
