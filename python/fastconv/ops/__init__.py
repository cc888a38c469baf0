"""Operators on arrays, forward and backward: the functions that validate, allocate and call a kernel."""

from fastconv.ops.activation import (
    activation_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastconv.ops.conv import conv2d, conv2d_backward
from fastconv.ops.dense import dense, dense_backward
from fastconv.ops.im2col import col2im, im2col
from fastconv.ops.loss import softmax_cross_entropy
from fastconv.ops.pool import (
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
from fastconv.ops.update import (
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
