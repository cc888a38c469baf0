"""The table of bad calls: operator, wrong argument, its value, the exception and a part of the message.

Each row is a good call, ``good_calls()[operator]``, with one argument replaced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Call = dict[str, Any]


def array(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


# A good call of every function, by keyword; arrays are made anew for each test.
def good_calls() -> dict[str, Call]:
    x, weight = array(2, 4, 5, 6), array(6, 2, 3, 3)
    flat, columns = array(8), array(2, 36, 12)
    elementwise = {"grad_output": array(3, 5), "output": array(3, 5), "out": array(3, 5)}
    return {
        "conv2d": {"x": x, "weight": weight, "bias": array(6), "groups": 2, "out": array(2, 6, 3, 4)},
        "conv2d_backward": {
            "grad_output": array(2, 6, 3, 4),
            "x": x,
            "weight": weight,
            "groups": 2,
            "out": (array(2, 4, 5, 6), array(6, 2, 3, 3), array(6)),
        },
        "dense": {"x": array(3, 5), "weight": array(4, 5), "bias": array(4), "out": array(3, 4)},
        "dense_backward": {
            "grad_output": array(3, 4),
            "x": array(3, 5),
            "weight": array(4, 5),
            "out": (array(3, 5), array(4, 5), array(4)),
        },
        "max_pool2d": {"x": x, "kernel_size": 2},
        "max_pool2d_backward": {"grad_output": array(2, 4, 2, 3), "x": x, "kernel_size": 2},
        "max_pool2x2": {"x": x},
        "max_pool2x2_backward": {
            "grad_output": array(2, 4, 2, 3),
            "taps": np.zeros((2, 4, 2, 3), np.uint8),
            "x_shape": x.shape,
        },
        "avg_pool2d": {"x": x, "kernel_size": 2},
        "avg_pool2d_backward": {"grad_output": array(2, 4, 2, 3), "x_shape": x.shape, "kernel_size": 2},
        "pool2d": {"x": x, "kernel_size": 2, "mode": "avg"},
        "pool2d_backward": {"grad_output": array(2, 4, 2, 3), "x": x, "kernel_size": 2, "mode": "avg"},
        "global_avg_pool2d": {"x": x},
        "global_avg_pool2d_backward": {"grad_output": array(2, 4, 1, 1), "x_shape": x.shape},
        "im2col": {"x": x, "kernel_size": 3},
        "col2im": {"columns": columns, "output_size": (5, 6), "kernel_size": 3},
        **{
            name: {"x": array(3, 5), "out": array(3, 5)}
            for name in ("relu", "leaky_relu", "sigmoid", "tanh", "softmax")
        },
        **{f"{name}_backward": dict(elementwise) for name in ("relu", "leaky_relu", "sigmoid", "tanh", "softmax")},
        "activation_backward": {**elementwise, "activation": "relu"},
        "softmax_cross_entropy": {
            "logits": array(3, 5),
            "labels": np.array([0, 4, 2]),
            "sample_weight": array(3),
        },
        "sgd_update": {
            "parameters": flat,
            "gradients": array(8),
            "velocity": array(8),
            "learning_rate": 0.1,
            "momentum": 0.9,
        },
        "adam_update": {
            "parameters": flat,
            "gradients": array(8),
            "first_moment": array(8),
            "second_moment": array(8),
            "learning_rate": 0.1,
            "beta_1": 0.9,
            "beta_2": 0.99,
            "epsilon": 1e-7,
            "step": 1,
        },
        "nadam_update": {
            "parameters": flat,
            "gradients": array(8),
            "first_moment": array(8),
            "second_moment": array(8),
            "learning_rate": 0.1,
            "beta_1": 0.9,
            "beta_2": 0.99,
            "epsilon": 1e-7,
            "momentum_decay": 0.004,
            "momentum_product": 1.0,
            "step": 1,
        },
        "adagrad_update": {
            "parameters": flat,
            "gradients": array(8),
            "accumulator": array(8),
            "learning_rate": 0.1,
            "epsilon": 1e-7,
        },
        "adadelta_update": {
            "parameters": flat,
            "gradients": array(8),
            "mean_square": array(8),
            "mean_square_step": array(8),
            "learning_rate": 0.1,
            "rho": 0.9,
            "epsilon": 1e-7,
        },
        "rmsprop_update": {
            "parameters": flat,
            "gradients": array(8),
            "mean_square": array(8),
            "mean": array(8),
            "velocity": array(8),
            "learning_rate": 0.1,
            "rho": 0.9,
            "momentum": 0.9,
            "epsilon": 1e-7,
        },
    }


GOOD = good_calls()


def read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


Row = tuple[str, str, Any, type[Exception], str]


def wrong_kinds() -> list[Row]:
    """No array argument takes anything but an array of one of the two dtypes, and all of the same."""
    wrong = {
        "float16": lambda a: a.astype(np.float16),
        "int64": lambda a: a.astype(np.int64),
        "complex64": lambda a: a.astype(np.complex64),
        "object": lambda a: a.astype(object),
        "bool": lambda a: a.astype(bool),
        "list": lambda a: a.tolist(),
        "NoneType": lambda a: None,
        "str": lambda a: "a string",
        "masked array": lambda a: np.ma.masked_array(a),
    }
    rows: list[Row] = []
    for operator, call in GOOD.items():
        arrays = [
            name
            for name, value in call.items()
            if isinstance(value, np.ndarray) and name not in ("out", "labels", "taps")
        ]
        optional = {"bias", "sample_weight"} | ({"mean", "velocity"} if operator.endswith("_update") else set())
        for name in arrays:
            for kind, change in wrong.items():
                if not (kind == "NoneType" and name in optional):
                    cure = "" if kind == "masked array" else r".*np\.asarray\(.*dtype=np\.float32\)"
                    rows.append((operator, name, change(call[name]), TypeError, f"received .*{kind}{cure}"))
        for name in arrays[1:]:
            rows.append(
                (operator, name, call[name].astype(np.float64), TypeError, "dtype.*float32.*float64|float64.*float32")
            )
    return rows


WINDOWED = {
    "conv2d": ("stride", "padding", "dilation"),
    "conv2d_backward": ("stride", "padding", "dilation"),
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation"),
    "max_pool2d_backward": ("kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("kernel_size", "stride", "padding"),
    "avg_pool2d_backward": ("kernel_size", "stride", "padding"),
    "pool2d": ("kernel_size", "stride", "padding"),
    "pool2d_backward": ("kernel_size", "stride", "padding"),
    "im2col": ("kernel_size", "stride", "padding", "dilation"),
    "col2im": ("output_size", "kernel_size", "stride", "padding", "dilation"),
}


def wrong_windows() -> list[Row]:
    """Every argument of a window, in every operator that has one."""
    rows: list[Row] = []
    for operator, names in WINDOWED.items():
        for name in names:
            minimum = 0 if name == "padding" else 1
            for value in (minimum - 1, -5, (1, minimum - 1), (minimum - 1, 1)):
                rows.append((operator, name, value, ValueError, f"at least {minimum}; received -?[0-9]+"))
            for value in (1.5, 2.0, True, (1, True), (2.0, 1), b"1", {2: 2}, object(), np.array([1, 2]), np.float32(1)):
                rows.append((operator, name, value, TypeError, "an int.*; received"))
            for value in ([1, 2, 3], [], (1,)):
                rows.append((operator, name, value, ValueError, "pair.*; received"))
            if name == "padding":
                for value in ("full", "SAME", "2", ""):
                    rows.append((operator, name, value, ValueError, f'"valid" or "same"; received {value!r}'))
                for value in (((1, 1),), ((1, 1), (1, 1), (1, 1)), ((1, 1), (1, 1, 1)), ((0, -1), (0, 0))):
                    rows.append((operator, name, value, ValueError, "received"))
                rows.append((operator, name, ((1, 1.0), (1, 1)), TypeError, "received 1.0"))
            else:
                rows.append((operator, name, "2", TypeError, "an int.*; received '2'"))
            if not (name == "stride" and "pool" in operator):  # there, None is the kernel's size
                rows.append((operator, name, None, TypeError, "an int.*; received None"))
    return rows


# What is wrong with one operator alone.
SPECIAL: list[Row] = [
    # convolution
    ("conv2d", "x", array(4, 5, 6), ValueError, r"4 axes; received shape \(4, 5, 6\)"),
    ("conv2d", "x", array(2, 0, 5, 6), ValueError, r"at least 1; received shape \(2, 0, 5, 6\)"),
    ("conv2d", "x", array(2, 4, 0, 6), ValueError, "received"),
    ("conv2d", "x", array(2, 4, 5, 0), ValueError, "received"),
    ("conv2d", "x", array(2, 6, 5, 6), ValueError, "input channels.*6.*received 2"),
    ("conv2d", "weight", array(6, 18), ValueError, r"4 axes; received shape \(6, 18\)"),
    ("conv2d", "weight", array(6, 4, 3, 3), ValueError, "2 input channels.*received 4"),
    ("conv2d", "weight", array(6, 0, 3, 3), ValueError, "received"),
    ("conv2d", "weight", array(6, 2, 0, 3), ValueError, "received"),
    ("conv2d", "weight", array(6, 2, 3, 0), ValueError, "received"),
    ("conv2d", "weight", array(0, 2, 3, 3), ValueError, "at least 1.*received"),
    ("conv2d", "weight", array(5, 2, 3, 3), ValueError, "divisor of 4 input and 5 output channels; received 2"),
    ("conv2d", "weight", array(6, 2, 6, 3), ValueError, r"floor\(\(5 \+ 0 \+ 0 - 1\*\(6 - 1\) - 1\) / 1\) \+ 1"),
    ("conv2d", "weight", array(6, 2, 3, 7), ValueError, r"floor\(\(6 \+ 0 \+ 0 - 1\*\(7 - 1\) - 1\) / 1\) \+ 1"),
    ("conv2d", "dilation", (3, 1), ValueError, "expected .*5.*; received 7"),
    ("conv2d", "bias", array(5), ValueError, "6 output channels; received 5"),
    ("conv2d", "bias", array(6, 1), ValueError, "1 axes; received"),
    ("conv2d", "groups", 0, ValueError, "at least 1; received 0"),
    ("conv2d", "groups", -2, ValueError, "at least 1; received -2"),
    ("conv2d", "groups", 3, ValueError, "received 3"),
    ("conv2d", "groups", 1, ValueError, "input channels"),
    ("conv2d", "groups", True, TypeError, "an int; received True"),
    ("conv2d", "groups", 2.0, TypeError, "an int; received 2.0"),
    ("conv2d", "groups", None, TypeError, "an int; received None"),
    ("conv2d", "activation", "swish", ValueError, "'relu'.*; received 'swish'"),
    ("conv2d", "activation", np.tanh, TypeError, "a name or None; received"),
    ("conv2d", "activation", ["relu"], TypeError, "a name or None; received"),
    ("conv2d_backward", "grad_output", array(2, 6, 3, 3), ValueError, r"\(2, 6, 3, 4\).*; received \(2, 6, 3, 3\)"),
    ("conv2d_backward", "grad_output", array(2, 6, 4, 3), ValueError, "received"),
    ("conv2d_backward", "grad_output", array(1, 6, 3, 4), ValueError, "received"),
    ("conv2d_backward", "grad_output", array(2, 5, 3, 4), ValueError, "received"),
    ("conv2d_backward", "x", array(2, 4, 5, 7), ValueError, "grad_output.*received"),
    ("conv2d_backward", "x", array(3, 4, 5, 6), ValueError, "grad_output.*received"),
    ("conv2d_backward", "weight", array(6, 2, 3, 2), ValueError, "grad_output.*received"),
    ("conv2d_backward", "stride", 2, ValueError, "grad_output.*received"),
    ("conv2d_backward", "output_mask", (True, True), ValueError, "three booleans; received 2"),
    ("conv2d_backward", "output_mask", True, TypeError, "three booleans; received True"),
    ("conv2d_backward", "out", None, TypeError, "three arrays or None; received"),
    ("conv2d_backward", "out", (None, None), ValueError, "three arrays or None; received 2"),
    # dense
    ("dense", "x", array(3, 4), ValueError, r"\(out_features, 4\).*; received \(4, 5\)"),
    ("dense", "x", array(3, 5, 1), ValueError, "2 axes; received"),
    ("dense", "x", array(5), ValueError, "2 axes; received"),
    ("dense", "weight", array(5, 4), ValueError, r"; received \(5, 4\)"),
    ("dense", "bias", array(3), ValueError, "4 output features; received 3"),
    ("dense", "activation", "softmax", ValueError, "; received 'softmax'"),
    ("dense_backward", "grad_output", array(3, 5), ValueError, r"\(3, 4\).*; received \(3, 5\)"),
    ("dense_backward", "x", array(4, 5), ValueError, "grad_output.*received"),
    ("dense_backward", "weight", array(3, 5), ValueError, "grad_output.*received"),
    ("dense_backward", "output_mask", [True] * 4, ValueError, "three booleans; received 4"),
    # pooling
    *(
        row
        for pool in ("max_pool2d", "avg_pool2d", "pool2d")
        for row in (
            (pool, "x", array(4, 5, 6), ValueError, "4 axes; received"),
            (pool, "x", array(2, 0, 5, 6), ValueError, "at least 1; received"),
            (pool, "x", array(2, 4, 0, 6), ValueError, "received"),
            (pool, "kernel_size", 6, ValueError, r"floor\("),
            (pool, "kernel_size", (5, 7), ValueError, r"floor\("),
            (pool, "kernel_size", 2**62, ValueError, "received"),
            (pool, "kernel_size", 2**80, ValueError, "received"),
            (pool, "padding", 2, ValueError, "half the kernel, 1,.*; received 2"),
            (pool, "padding", ((0, 0), (0, 2)), ValueError, "half the kernel.*; received 2"),
            (pool, "ceil_mode", 1, TypeError, "a bool; received 1"),
            (pool, "ceil_mode", None, TypeError, "a bool; received None"),
        )
    ),
    ("max_pool2d", "dilation", 5, ValueError, r"floor\("),
    ("max_pool2x2", "x", array(4, 5, 6), ValueError, "4 axes; received"),
    ("max_pool2x2", "x", array(2, 4, 1, 6), ValueError, r"floor\("),
    ("max_pool2x2_backward", "grad_output", array(2, 4, 2, 2), ValueError, r"\(2, 4, 2, 3\).*; received"),
    ("max_pool2x2_backward", "taps", array(2, 4, 2, 3), TypeError, "uint8; received .*float32"),
    ("max_pool2x2_backward", "taps", None, TypeError, "uint8; received None"),
    ("max_pool2x2_backward", "taps", np.zeros((2, 4, 2, 2), np.uint8), ValueError, r"; received \(2, 4, 2, 2\)"),
    *(
        ("avg_pool2d", "divisor_override", value, error, "received")
        for value, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), ("2", TypeError), (True, TypeError))
    ),
    *(
        row
        for pool in ("max_pool2d_backward", "avg_pool2d_backward", "pool2d_backward")
        for row in (
            (pool, "grad_output", array(2, 4, 2, 2), ValueError, r"\(2, 4, 2, 3\).*; received \(2, 4, 2, 2\)"),
            (pool, "grad_output", array(2, 4, 2, 4), ValueError, "received"),
            (pool, "grad_output", array(3, 4, 2, 3), ValueError, "received"),
            (pool, "grad_output", array(2, 5, 2, 3), ValueError, "received"),
            (pool, "kernel_size", 3, ValueError, "grad_output.*received"),
            (pool, "stride", 1, ValueError, "grad_output.*received"),
            (pool, "ceil_mode", True, ValueError, "grad_output.*received"),
        )
    ),
    ("pool2d", "mode", "min", ValueError, '"max" or "avg"; received \'min\''),
    ("pool2d", "mode", None, TypeError, '"max" or "avg"; received None'),
    ("pool2d_backward", "mode", ["max"], TypeError, "received"),
    *(
        (pool, "x_shape", value, error, "received")
        for pool in ("avg_pool2d_backward", "global_avg_pool2d_backward", "max_pool2x2_backward")
        for value, error in (
            ((2, 4, 5), ValueError),
            ((2, 4, 5, 6, 1), ValueError),
            ((2, 4, 5, -6), ValueError),
            ((2, 4, 0, 6), ValueError),
            ((2, 4, 5, 6.0), TypeError),
            (7, TypeError),
            (None, TypeError),
            ("2456", TypeError),
        )
    ),
    ("avg_pool2d_backward", "x_shape", (2, 4, 9, 9), ValueError, "grad_output.*received"),
    ("global_avg_pool2d_backward", "x_shape", (2, 5, 5, 6), ValueError, "grad_output.*received"),
    ("global_avg_pool2d_backward", "x_shape", (1, 4, 2**40, 2**40), ValueError, "received"),
    ("global_avg_pool2d", "x", array(2, 4, 5, 0), ValueError, "at least 1; received"),
    ("global_avg_pool2d", "x", array(2, 4), ValueError, "4 axes; received"),
    # columns
    ("im2col", "x", array(2, 4, 5), ValueError, "4 axes; received"),
    ("im2col", "x", array(2, 0, 5, 6), ValueError, "at least 1; received"),
    ("im2col", "kernel_size", 6, ValueError, r"floor\("),
    ("col2im", "columns", array(2, 35, 12), ValueError, "multiple of the 9 taps.*; received"),
    ("col2im", "columns", array(2, 0, 12), ValueError, "multiple of the 9 taps.*; received"),
    ("col2im", "columns", array(2, 36, 11), ValueError, r"3 \* 4 = 12.*; received"),
    ("col2im", "columns", array(36, 12), ValueError, "3 axes; received"),
    ("col2im", "output_size", (6, 6), ValueError, "columns.*received"),
    ("col2im", "output_size", (2, 6), ValueError, r"floor\("),
    ("col2im", "output_size", (2**62, 2**62), ValueError, "received"),
    # elementwise
    *(
        (f"{name}_backward", "grad_output", array(5, 3), ValueError, r"\(3, 5\).*; received \(5, 3\)")
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", "activation")
    ),
    ("leaky_relu", "negative_slope", "0.1", TypeError, "a number; received '0.1'"),
    ("leaky_relu", "negative_slope", None, TypeError, "a number; received None"),
    ("leaky_relu_backward", "negative_slope", -0.1, ValueError, "at least 0.*; received -0.1"),
    ("activation_backward", "activation", "swish", ValueError, "received 'swish'"),
    ("activation_backward", "activation", 3, TypeError, "received 3"),
    *(
        row
        for name in ("softmax", "softmax_backward")
        for row in (
            (name, "axis", 2, ValueError, "-2 to 1.*; received 2"),
            (name, "axis", -3, ValueError, "received -3"),
            (name, "axis", 1.0, TypeError, "an int; received 1.0"),
            (name, "axis", None, TypeError, "an int; received None"),
            (name, "axis", (0, 1), TypeError, "an int; received"),
        )
    ),
    ("softmax", "x", array(), ValueError, "axis"),
    ("softmax", "x", array(3, 0), ValueError, "at least one element.*; received"),
    # loss
    ("softmax_cross_entropy", "logits", array(3), ValueError, "2 axes; received"),
    ("softmax_cross_entropy", "logits", array(0, 5), ValueError, "received"),
    ("softmax_cross_entropy", "logits", array(3, 0), ValueError, "received"),
    ("softmax_cross_entropy", "labels", np.array([0, 5, 1]), ValueError, "0 to 4.*; received 5"),
    ("softmax_cross_entropy", "labels", np.array([0, -1, 1]), ValueError, "0 to 4.*; received -1"),
    ("softmax_cross_entropy", "labels", np.array([0, 2**63, 1], np.uint64), ValueError, "received 9223372036854775808"),
    ("softmax_cross_entropy", "labels", np.array([0, 1]), ValueError, r"\(3,\).*; received \(2,\)"),
    ("softmax_cross_entropy", "labels", np.zeros((3, 1), int), ValueError, "received"),
    ("softmax_cross_entropy", "labels", np.array([0.0, 1.0, 2.0]), TypeError, "integers; received float64"),
    ("softmax_cross_entropy", "labels", np.array([True, False, True]), TypeError, "integers; received bool"),
    ("softmax_cross_entropy", "labels", [0, 1, 2], TypeError, "integers; received list"),
    ("softmax_cross_entropy", "labels", np.ma.masked_array([0, 1, 2]), TypeError, "received Masked"),
    ("softmax_cross_entropy", "sample_weight", array(2), ValueError, r"\(3,\).*; received \(2,\)"),
    ("softmax_cross_entropy", "sample_weight", array(3, 1), ValueError, "received"),
    # optimizers
    *(
        row
        for update, names in (
            ("sgd_update", ("gradients", "velocity")),
            ("adam_update", ("gradients", "first_moment", "second_moment")),
            ("nadam_update", ("gradients", "first_moment", "second_moment")),
            ("adagrad_update", ("gradients", "accumulator")),
            ("adadelta_update", ("gradients", "mean_square", "mean_square_step")),
            ("rmsprop_update", ("gradients", "mean_square", "mean", "velocity")),
        )
        for name in names
        for row in (
            (update, name, array(7), ValueError, r"\(8,\).*; received \(7,\)"),
            (update, name, array(2, 4), ValueError, "1 axes; received"),
        )
    ),
    *(
        row
        for update, names in (
            ("sgd_update", ("parameters", "velocity")),
            ("adam_update", ("parameters", "first_moment", "second_moment")),
            ("nadam_update", ("parameters", "first_moment", "second_moment")),
            ("adagrad_update", ("parameters", "accumulator")),
            ("adadelta_update", ("parameters", "mean_square", "mean_square_step")),
            ("rmsprop_update", ("parameters", "mean_square", "mean", "velocity")),
        )
        for name in names
        for row in (
            (update, name, array(16)[::2], ValueError, "writable, C-contiguous.*; received"),
            (update, name, read_only(array(8)), ValueError, "writable, C-contiguous.*; received"),
        )
    ),
    ("sgd_update", "velocity", None, ValueError, "expected an array.*; received None"),
    ("sgd_update", "learning_rate", "0.1", TypeError, "a number; received '0.1'"),
    ("sgd_update", "momentum", None, TypeError, "a number; received None"),
    ("adam_update", "epsilon", 1j, TypeError, "a number; received 1j"),
    ("adam_update", "step", 0, ValueError, "at least 1; received 0"),
    ("adam_update", "step", 1.0, TypeError, "an int; received 1.0"),
    ("nadam_update", "step", 0, ValueError, "at least 1; received 0"),
    ("nadam_update", "momentum_product", "1", TypeError, "a number; received '1'"),
    ("rmsprop_update", "velocity", None, ValueError, "expected an array.*; received None"),
    ("rmsprop_update", "rho", None, TypeError, "a number; received None"),
]


def wrong_outputs() -> list[Row]:
    """Every function with ``out=``."""
    rows: list[Row] = []
    for operator, call in GOOD.items():
        outs = call.get("out")
        if outs is None:
            continue
        for i, out in enumerate(outs if isinstance(outs, tuple) else (outs,)):
            wrong = [
                (out.astype(np.float64), TypeError, "dtype float32; received float64"),
                (out.astype(out.dtype.newbyteorder()), TypeError, "dtype float32; received"),
                (out.tolist(), TypeError, "a NumPy array; received list"),
                (np.ma.masked_array(out), TypeError, "received"),
                (array(*out.shape, 1), ValueError, "shape .*; received"),
                (array(*out.shape[:-1], out.shape[-1] + 1), ValueError, "shape .*; received"),
                (array(*out.shape[:-1], 2 * out.shape[-1])[..., ::2], ValueError, "C-contiguous.*; received"),
                (np.broadcast_to(array(), out.shape), ValueError, "C-contiguous.*; received"),
                (read_only(out.copy()), ValueError, "writable.*; received"),
            ]
            for value, error, message in wrong:
                given = (*outs[:i], value, *outs[i + 1 :]) if isinstance(outs, tuple) else value
                rows.append((operator, "out", given, error, message))
    return rows


TABLE = [*wrong_kinds(), *wrong_windows(), *SPECIAL, *wrong_outputs()]
