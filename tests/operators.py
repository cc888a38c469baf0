"""The table that drives the tests: every operator, in every shape that has its own way in a kernel.

A `Row` names an operator, the shapes of its arrays and its options; ``ROWS`` is the table. How an
operator is called, forward and backward, and how exactly it must answer stands in ``OPERATORS``.
A new operator is an entry there and a few rows; every test of the table then covers it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from exactness import (
    Arrays,
    Bound,
    Options,
    averaged,
    cancelling,
    exact,
    magnified,
    relative,
    summed,
    updated,
)

Shape = tuple[int, ...]

# --- how an operator is called -------------------------------------------------------------------

Backward = Callable[[ModuleType, np.ndarray, Arrays, np.ndarray, Options], Any]


class Operator(NamedTuple):
    """How to call an operator, and how exactly it answers."""

    forward: Callable[[ModuleType, Arrays, Options], Any]
    forward_bound: Bound
    backward: Backward | None  # of (library, grad_output, arrays, output, options)
    backward_bound: Bound
    integral: bool = False  # sums of products: whole numbers give whole numbers, exactly
    bilinear: bool = False  # the gradients are sums of products with the arrays


def plain(name: str) -> Callable[[ModuleType, Arrays, Options], Any]:
    return lambda library, arrays, options: getattr(library, name)(*arrays, **options)


def without(options: Options, *names: str) -> dict[str, Any]:
    """Leave out the options that only the forward takes."""
    return {name: value for name, value in options.items() if name not in names}


def from_arrays(name: str) -> Backward:
    return lambda lib, grad, arrays, _, options: getattr(lib, name)(grad, *arrays, **without(options, "return_indices"))


def from_shape(name: str) -> Backward:
    return lambda lib, grad, arrays, _, opts: getattr(lib, name)(grad, arrays[0].shape, **opts)


def from_output(name: str) -> Backward:
    return lambda lib, grad, _, output, options: getattr(lib, name)(grad, output, **options)


def product_backward(name: str) -> Backward:
    """Through the fused activation, then as many gradients as there are arrays."""

    def call(lib: ModuleType, grad: np.ndarray, arrays: Arrays, output: np.ndarray, options: Options) -> Any:
        grad = lib.activation_backward(grad, output, options.get("activation"))
        return getattr(lib, name)(grad, *arrays[:2], **without(options, "activation"))[: len(arrays)]

    return call


def taps_backward(lib: ModuleType, grad: np.ndarray, arrays: Arrays, _: np.ndarray, __: Options) -> Any:
    (x,) = arrays
    return lib.max_pool2x2_backward(grad, lib.max_pool2x2(x)[1], x.shape)


def im2col_backward(lib: ModuleType, grad: np.ndarray, arrays: Arrays, _: np.ndarray, options: Options) -> Any:
    return lib.col2im(grad, arrays[0].shape[2:], **options)


def col2im_backward(lib: ModuleType, grad: np.ndarray, _: Arrays, __: np.ndarray, options: Options) -> Any:
    return lib.im2col(grad, **without(options, "output_size"))


def cross_entropy(lib: ModuleType, arrays: Arrays, options: Options) -> Any:
    (logits,) = arrays
    images, classes = logits.shape
    weight = np.linspace(0, 2, images, dtype=logits.dtype) if options.get("weighted") else None
    labels = np.arange(images) * 7 % classes
    loss, grad = lib.softmax_cross_entropy(logits, labels, sample_weight=weight)
    return np.asarray(loss, grad.dtype), grad


def cross_entropy_backward(lib: ModuleType, grad: np.ndarray, arrays: Arrays, _: np.ndarray, options: Options) -> Any:
    return grad * cross_entropy(lib, arrays, options)[1]


def sgd(lib: ModuleType, arrays: Arrays, options: Options) -> Any:
    parameters, gradients, *velocity = (a.copy() for a in arrays)
    lib.sgd_update(parameters, gradients, velocity[0] if velocity else None, **options)
    return (parameters, *velocity)


def adam(name: str) -> Callable[..., Any]:
    """Adam and its kin: two moments, of which the second is not negative."""

    def call(lib: ModuleType, arrays: Arrays, options: Options) -> Any:
        parameters, gradients, first, second = (a.copy() for a in arrays)
        np.abs(second, out=second)
        product = getattr(lib, name)(parameters, gradients, first, second, **options)
        moved = (parameters, first, second)
        return moved if product is None else (*moved, np.array(product, first.dtype))

    return call


def squares(name: str) -> Callable[..., Any]:
    """Optimizers whose states are sums and means of squares."""

    def call(lib: ModuleType, arrays: Arrays, options: Options) -> Any:
        parameters, gradients, *states = (a.copy() for a in arrays)
        for state in states:
            np.abs(state, out=state)
        getattr(lib, name)(parameters, gradients, *states, **options)
        return (parameters, *states)

    return call


def rmsprop(lib: ModuleType, arrays: Arrays, options: Options) -> Any:
    """One to three states: the mean of squares, which is no smaller than that of gradients squared; the velocity."""
    parameters, gradients, square, *rest = (a.copy() for a in arrays)
    mean = rest.pop(0) if options["centered"] else None
    velocity = rest.pop(0) if rest else None
    np.abs(square, out=square)
    if mean is not None:
        square += np.square(mean) + 1
    settings = {name: value for name, value in options.items() if name != "centered"}
    lib.rmsprop_update(parameters, gradients, square, mean, velocity, **settings)
    return tuple(a for a in (parameters, square, mean, velocity) if a is not None)


OPERATORS: dict[str, Operator] = {
    "conv2d": Operator(plain("conv2d"), summed, product_backward("conv2d_backward"), summed, True, True),
    "dense": Operator(plain("dense"), summed, product_backward("dense_backward"), summed, True, True),
    "im2col": Operator(plain("im2col"), exact, im2col_backward, summed, True),
    "col2im": Operator(plain("col2im"), summed, col2im_backward, exact, True),
    "max_pool2d": Operator(plain("max_pool2d"), exact, from_arrays("max_pool2d_backward"), summed, True),
    "max_pool2x2": Operator(plain("max_pool2x2"), exact, taps_backward, summed, True),
    "avg_pool2d": Operator(plain("avg_pool2d"), averaged, from_shape("avg_pool2d_backward"), averaged),
    "pool2d": Operator(plain("pool2d"), averaged, from_arrays("pool2d_backward"), averaged),
    "global_avg_pool2d": Operator(
        plain("global_avg_pool2d"), averaged, from_shape("global_avg_pool2d_backward"), averaged
    ),
    "relu": Operator(plain("relu"), exact, from_output("relu_backward"), exact, True),
    "leaky_relu": Operator(plain("leaky_relu"), relative(2), from_output("leaky_relu_backward"), relative(2)),
    "sigmoid": Operator(plain("sigmoid"), relative(8), from_output("sigmoid_backward"), relative(6)),
    "tanh": Operator(plain("tanh"), relative(8), from_output("tanh_backward"), magnified(4)),
    "softmax": Operator(plain("softmax"), relative(80), from_output("softmax_backward"), cancelling(80)),
    "softmax_cross_entropy": Operator(cross_entropy, cancelling(80), cross_entropy_backward, cancelling(80)),
    "sgd_update": Operator(sgd, updated, None, exact),
    "adam_update": Operator(adam("adam_update"), updated, None, exact),
    "nadam_update": Operator(adam("nadam_update"), updated, None, exact),
    "adagrad_update": Operator(squares("adagrad_update"), updated, None, exact),
    "adadelta_update": Operator(squares("adadelta_update"), updated, None, exact),
    "rmsprop_update": Operator(rmsprop, updated, None, exact),
}


@dataclass(frozen=True, eq=False)
class Row:
    """One operator on arrays of these shapes with these options."""

    operator: str
    shapes: tuple[Shape, ...]
    options: Options = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, shape)) or "scalar" for shape in self.shapes)
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.operator}:{shapes}:{options}".replace(" ", "")

    @property
    def recipe(self) -> Operator:
        return OPERATORS[self.operator]

    @property
    def integral(self) -> bool:
        """Whether whole numbers give an exact answer: also a mean over 2, 4 or 16 taps."""
        if self.operator == "avg_pool2d" and not set(self.options) - {"kernel_size", "stride"}:
            return int(np.prod(np.broadcast_to(self.options["kernel_size"], 2))) in (1, 2, 4, 16)
        return self.recipe.integral and self.options.get("activation") in (None, "linear", "relu")

    def draw(self, dtype: type | str, values: str = "reals") -> Arrays:
        """Draw the arrays, the same in every process: real numbers, or small whole ones."""
        return tuple(self._draw(shape, dtype, values, i) for i, shape in enumerate(self.shapes))

    def draw_like(self, output: np.ndarray, values: str = "reals") -> np.ndarray:
        """Draw a gradient for that output."""
        return self._draw(output.shape, output.dtype, values, len(self.shapes))

    def _draw(self, shape: Shape, dtype: Any, values: str, index: int) -> np.ndarray:
        rng = np.random.default_rng((zlib.crc32(str(self).encode()), index))
        drawn = rng.integers(-4, 5, shape) if values == "integers" else rng.standard_normal(shape)
        return np.asarray(drawn).astype(dtype)

    def forward(self, library: ModuleType, arrays: Arrays) -> Arrays:
        """Call the operator; always a tuple, whose first is the output that has a gradient."""
        return _tuple(self.recipe.forward(library, arrays, self.options))

    def backward(self, library: ModuleType, grad: np.ndarray, arrays: Arrays, output: np.ndarray) -> Arrays:
        """Call its backward: one gradient for each array."""
        assert self.recipe.backward is not None
        return _tuple(self.recipe.backward(library, grad, arrays, output, self.options))

    def forward_bound(self, library: ModuleType, arrays: Arrays) -> Arrays:
        """Bound each output's error, given the oracle and float64 arrays."""
        activation = self.options.get("activation")
        bounds = self.recipe.forward_bound(
            lambda a, o: _tuple(self.recipe.forward(library, a, o)),
            arrays,
            without(self.options, "activation"),
        )
        if activation is None:
            return bounds
        # No activation here is steeper than 1; it adds up to 4 units in the last place.
        return tuple(bound + 8 * np.abs(y) for bound, y in zip(bounds, self.forward(library, arrays), strict=True))

    def backward_bound(self, library: ModuleType, grad: np.ndarray, arrays: Arrays, output: np.ndarray) -> Arrays:
        """Bound each gradient's error, given the oracle and float64 arrays."""
        recipe = self.recipe
        assert recipe.backward is not None
        backward = recipe.backward

        def call(given: Arrays, options: Options) -> Arrays:
            grad, *rest = given
            return _tuple(backward(library, grad, tuple(rest) or arrays, output, options))

        return recipe.backward_bound(call, (grad, *arrays) if recipe.bilinear else (grad,), self.options)


def _tuple(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


# --- the rows ------------------------------------------------------------------------------------


def conv(x: Shape, weight: Shape, *, bias: bool = True, **options: Any) -> Row:
    return Row("conv2d", (x, weight, weight[:1]) if bias else (x, weight), options)


def dense(batch: int, inputs: int, outputs: int, *, bias: bool = True, **options: Any) -> Row:
    shapes = ((batch, inputs), (outputs, inputs), (outputs,))
    return Row("dense", shapes if bias else shapes[:2], options)


def pool(name: str, x: Shape, kernel_size: Any, stride: Any = None, **options: Any) -> Row:
    return Row(name, (x,), {"kernel_size": kernel_size, "stride": stride, **options})


# The shapes that every kernel claim is measured on, with fewer images and channels.
MEASURED = [
    conv((3, 1, 28, 28), (6, 1, 5, 5), padding=2),
    conv((3, 6, 14, 14), (16, 6, 5, 5)),
    conv((2, 1, 28, 28), (32, 1, 3, 3)),
    conv((2, 32, 26, 26), (64, 32, 3, 3)),
    conv((2, 3, 32, 32), (32, 3, 3, 3), padding=1),
    conv((2, 32, 32, 32), (32, 32, 3, 3), padding=1),
    conv((2, 16, 32, 32), (16, 16, 3, 3), padding=1),
    conv((2, 16, 32, 32), (32, 16, 3, 3), stride=2, padding=1),
    conv((3, 32, 16, 16), (32, 32, 3, 3), padding=1),
    conv((2, 64, 16, 16), (64, 64, 3, 3), padding=1),
    conv((5, 64, 8, 8), (64, 64, 3, 3), padding=1),
    conv((3, 128, 8, 8), (128, 128, 3, 3), padding=1),
    conv((3, 8, 32, 32), (8, 8, 5, 5), padding=2),
    conv((1, 512, 4, 4), (64, 512, 3, 3), padding=1),
    conv((1, 3, 96, 96), (32, 3, 7, 7), stride=2, padding=3),
    conv((1, 32, 56, 56), (32, 32, 3, 3), padding=1),
    conv((2, 256, 14, 14), (32, 256, 3, 3), padding=1),
    conv((2, 256, 7, 7), (64, 256, 3, 3), padding=1),
    conv((1, 64, 56, 56), (64, 64, 1, 1)),
    conv((2, 512, 14, 14), (64, 512, 1, 1)),
    conv((1, 128, 28, 28), (64, 128, 1, 1), stride=2),
    conv((1, 16, 112, 112), (16, 16, 3, 3), padding=1),
    conv((2, 32, 56, 56), (32, 1, 3, 3), padding=1, groups=32),
    conv((2, 64, 28, 28), (64, 4, 3, 3), padding=1, groups=16),
    conv((2, 19, 13, 13), (33, 19, 3, 3), padding=1),
    conv((2, 64, 32, 32), (32, 64, 3, 3), padding=2, dilation=2),
    conv((4, 32, 1, 256), (32, 32, 1, 9), padding=(0, 4)),
    conv((1, 1, 28, 28), (6, 1, 5, 5), padding=2),
    conv((1, 32, 32, 32), (32, 32, 3, 3), padding=1),
]

PADDINGS: list[Any] = [
    (1, 2),
    (0, 1),
    ((1, 0), (2, 3)),
    ((0, 2), (0, 0)),
    ((3, 4), (5, 6)),  # windows that lie in the padding
    "valid",
    "same",
]

CONVOLUTIONS = [
    *MEASURED,
    *(conv((2, 3, 7, 9), (4, 3, 3, 3), padding=p) for p in PADDINGS),
    *(conv((2, 3, 7, 9), (4, 3, 3, 2), padding=p, stride=2) for p in PADDINGS),
    *(conv((2, 3, 9, 8), (4, 3, 2, 3), padding=p, stride=(3, 2), dilation=2) for p in PADDINGS),
    *(conv((1, 2, 11, 10), (3, 2, 4, 5), padding="same", stride=s) for s in (1, 2, 3, 4, 7)),
    *(conv((1, 2, 6, 5), (3, 2, 2, 2), padding="same", stride=s, dilation=3) for s in (1, 2)),
    # strides beyond the kernel leave pixels unread, and rows and columns differ
    conv((2, 3, 11, 12), (4, 3, 2, 2), stride=3),
    conv((2, 3, 12, 11), (4, 3, 1, 1), stride=(2, 3), padding=1),
    conv((2, 3, 12, 13), (4, 3, 3, 3), stride=(1, 2)),
    conv((2, 3, 12, 13), (4, 3, 3, 3), stride=(4, 1), padding=1),
    conv((1, 2, 40, 40), (3, 2, 3, 3), stride=17),
    conv((2, 5, 23, 29), (7, 5, 7, 7), stride=4, padding=3),
    # dilation
    conv((2, 3, 12, 13), (4, 3, 3, 3), dilation=(1, 3)),
    conv((2, 17, 13, 12), (20, 17, 3, 3), dilation=(3, 2), padding=((1, 6), (4, 0))),
    conv((1, 5, 9, 40), (18, 5, 3, 3), dilation=(5, 1), padding=(7, 2)),
    conv((2, 3, 12, 13), (4, 3, 3, 2), dilation=(4, 2), padding=4, stride=2),
    conv((1, 1, 5, 5), (1, 1, 2, 2), dilation=7, padding=4),
    # fewer pixels than filters: whole vectors of weights, and not
    conv((2, 7, 6, 5), (40, 7, 3, 3), stride=2, padding=1),
    conv((1, 24, 4, 4), (60, 12, 3, 3), padding=1, groups=2),
    conv((1, 16, 5, 5), (70, 16, 3, 3), dilation=2, padding=2),
    conv((3, 96, 3, 3), (50, 96, 1, 1)),
    # groups, depthwise, and depthwise with a multiplier
    conv((2, 6, 7, 7), (4, 3, 3, 3), groups=2),
    conv((2, 9, 7, 8), (6, 3, 3, 3), groups=3, stride=2, padding=1),
    conv((2, 6, 9, 9), (6, 2, 3, 3), groups=3, dilation=2, padding="same"),
    conv((2, 8, 6, 6), (12, 2, 1, 1), groups=4),
    conv((2, 5, 9, 10), (5, 1, 3, 3), groups=5, padding="same"),
    conv((2, 5, 9, 10), (10, 1, 3, 3), groups=5, stride=2, padding=1),
    conv((3, 7, 17, 19), (7, 1, 5, 5), groups=7, padding=2, stride=(2, 1)),
    conv((1, 3, 9, 9), (3, 1, 3, 3), groups=3, dilation=2, padding=2),
    conv((1, 4, 8, 70), (4, 1, 1, 3), groups=4),
    conv((2, 3, 21, 37), (6, 1, 3, 3), groups=3, padding=1),
    conv((2, 3, 21, 37), (9, 1, 5, 5), groups=3, padding=2),
    conv((2, 3, 21, 37), (12, 1, 3, 3), groups=3, padding=1),
    conv((2, 3, 21, 37), (3, 1, 7, 7), groups=3, padding=3),
    conv((2, 3, 21, 37), (3, 1, 2, 2), groups=3),
    conv((2, 3, 21, 37), (3, 1, 4, 6), groups=3, padding=((1, 2), (2, 3))),
    conv((2, 3, 21, 37), (3, 1, 1, 1), groups=3, stride=2),
    conv((2, 3, 21, 38), (6, 1, 3, 3), groups=3, stride=2, padding=((0, 1), (1, 0))),
    conv((2, 3, 21, 38), (3, 1, 5, 5), groups=3, stride=2, padding=2),
    conv((2, 3, 21, 38), (3, 1, 5, 3), groups=3, stride=(1, 2), padding=(2, 1)),
    conv((2, 3, 21, 38), (3, 1, 3, 3), groups=3, stride=(2, 3), dilation=(2, 1), padding=1),
    conv((2, 3, 21, 38), (3, 1, 2, 2), groups=3, stride=5),
    conv((2, 3, 21, 37), (3, 1, 3, 3), groups=3, dilation=(2, 3), padding="same"),
    conv((2, 3, 21, 37), (3, 1, 3, 3), groups=3, padding=((3, 0), (0, 4))),
    conv((2, 5, 2, 2), (5, 1, 5, 5), groups=5, padding=2),
    conv((2, 5, 1, 1), (10, 1, 3, 3), groups=5, padding=1, stride=2),
    conv((2, 5, 7, 7), (5, 1, 3, 3), groups=5, padding=1),
    conv((2, 5, 14, 14), (5, 1, 3, 3), groups=5, padding=1),
    conv((2, 20, 1, 50), (20, 1, 1, 9), groups=20, padding=(0, 4)),
    conv((2, 3, 50, 1), (3, 1, 9, 1), groups=3, padding=(4, 0)),
    conv((1, 2, 3, 1500), (2, 1, 3, 3), groups=2, padding=1),
    conv((1, 2, 160, 160), (2, 1, 3, 3), groups=2, padding=1),  # in bands
    conv((1, 2, 40, 40), (2, 1, 19, 19), groups=2, padding=9),  # a sum of several chains
    conv((2, 3, 9, 10), (3, 1, 3, 3), groups=3, padding=1, bias=False, activation="relu"),
    conv((2, 3, 9, 10), (3, 1, 3, 3), groups=3, padding=1, activation="tanh"),
    conv((2, 3, 5, 4), (3, 1, 3, 3), groups=3, padding=1, activation="sigmoid"),
    # the smallest and the longest
    conv((1, 1, 1, 1), (1, 1, 1, 1)),
    conv((1, 1, 1, 1), (1, 1, 3, 3), padding=1),
    conv((3, 5, 6, 7), (4, 5, 6, 7)),
    conv((2, 3, 1, 40), (4, 3, 1, 5), padding=(0, 2), stride=(1, 2)),
    conv((2, 3, 40, 1), (4, 3, 5, 1), padding=(2, 0)),
    conv((1, 2, 3, 1500), (3, 2, 3, 3), padding=1),
    conv((1, 2, 1500, 3), (3, 2, 3, 3), padding=1),
    conv((1, 1, 37, 41), (1, 1, 15, 17), padding=7),
    conv((1, 700, 3, 3), (5, 700, 1, 1)),
    conv((70, 1, 4, 4), (1, 1, 2, 2)),
    conv((0, 3, 7, 9), (4, 3, 3, 3)),
    # every remainder of widths and channels that a tile can leave
    *(
        conv((1, 1 + k % 5, 4, w), (k, 1 + k % 5, 3, 3), padding=1)
        for k, w in zip(range(1, 36), range(35, 0, -1), strict=True)
    ),
    *(conv((2, 3, 3, w), (k, 3, 1, 1)) for k, w in zip(range(1, 20), range(19, 0, -1), strict=True)),
    # filters that fill vectors: long rows, bands, several images at a time, chunks of channels and of filters
    conv((1, 2, 3, 1500), (16, 2, 3, 3), padding=1),
    conv((1, 2, 70, 40), (17, 2, 3, 3), padding=1, stride=(1, 2)),
    conv((25, 3, 8, 8), (16, 3, 3, 3), padding=1),
    conv((3, 150, 5, 6), (140, 150, 3, 3), padding=1),
    conv((2, 8, 7, 7), (32, 4, 3, 3), groups=2, stride=2, dilation=2, padding=1),
    conv((2, 20, 9, 11), (33, 20, 1, 1)),
    conv((2, 40, 9, 11), (34, 20, 1, 1), groups=2),
    conv((3, 5, 9, 10), (17, 5, 1, 1), stride=2),
    # packed pixels: 1x1 kernels and small images, with many outputs
    conv((5, 33, 7, 7), (70, 33, 1, 1), activation="tanh"),
    conv((3, 70, 9, 9), (50, 70, 1, 1), stride=(2, 3)),
    conv((2, 100, 6, 5), (200, 50, 1, 1), groups=2, stride=2),
    conv((1, 300, 8, 9), (150, 300, 1, 1), padding=1),
    conv((1, 60, 4, 4), (280, 60, 3, 3), padding=1),
    conv((7, 60, 3, 5), (130, 60, 3, 2), padding=(1, 2), stride=(1, 2)),
    conv((3, 100, 5, 5), (130, 100, 3, 3), padding=2, dilation=2, activation="relu"),
    conv((2, 5, 6, 6), (130, 5, 7, 7), padding=3),
    # no bias, and the fused activations
    conv((2, 3, 7, 9), (4, 3, 3, 3), bias=False),
    conv((0, 3, 7, 9), (4, 3, 3, 3), bias=False, padding="same"),
    *(
        conv((2, 3, 7, 9), (5, 3, 3, 3), bias=bias, padding=1, activation=name)
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh")
        for bias in (True, False)
    ),
    conv((2, 6, 9, 9), (6, 1, 3, 3), groups=6, padding=1, activation="relu"),
    conv((2, 16, 30, 30), (24, 16, 3, 3), stride=2, padding=1, activation="tanh"),
]

DENSE = [
    *(dense(n, i, o) for n, i, o in zip(range(1, 20), range(19, 0, -1), range(20, 58, 2), strict=True)),
    dense(1, 400, 120),
    dense(32, 784, 10),
    dense(128, 400, 120),
    dense(64, 1000, 65),
    dense(300, 3, 1),
    dense(5, 1, 1),
    dense(0, 4, 3),
    dense(4, 0, 3),
    dense(9, 0, 21),
    dense(4, 0, 3, bias=False),
    dense(7, 33, 17, bias=False),
    *(
        dense(5, 19, 23, bias=bias, activation=name)
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh")
        for bias in (True, False)
    ),
]

# Arguments that both poolings take.
POOLINGS: list[tuple[Shape, Any, Any, dict[str, Any]]] = [
    ((2, 3, 8, 8), 2, None, {}),
    ((3, 6, 28, 28), 2, 2, {}),
    ((2, 16, 27, 27), 2, 2, {}),
    ((2, 16, 55, 55), 3, 2, {}),
    ((2, 3, 56, 57), 3, 2, {"padding": 1}),
    ((2, 3, 9, 10), 3, 1, {"padding": 1}),
    ((2, 3, 9, 10), 3, 2, {"padding": "same"}),
    ((2, 3, 9, 10), 2, 1, {"padding": "same"}),
    ((2, 3, 9, 10), 3, 2, {"padding": "valid"}),
    ((2, 3, 9, 10), (3, 4), (2, 3), {"padding": ((1, 0), (2, 1))}),
    ((2, 3, 9, 10), (1, 3), (2, 1), {"padding": (0, 1)}),
    ((2, 3, 11, 12), 2, 3, {}),
    ((2, 3, 11, 12), 1, 2, {}),
    ((2, 3, 11, 12), 1, 1, {}),
    ((1, 2, 16, 19), 4, 4, {}),
    ((1, 2, 9, 19), (1, 2), (2, 3), {}),
    ((2, 3, 6, 7), (6, 7), None, {}),
    ((1, 1, 1, 1), 1, None, {}),
    ((1, 2, 1, 130), (1, 2), None, {}),
    ((1, 2, 130, 1), (3, 1), (2, 1), {"padding": (1, 0)}),
    ((1, 1, 33, 35), 9, 4, {"padding": 4}),
    ((1, 300, 4, 4), 2, None, {}),
    ((0, 3, 8, 8), 2, None, {}),
    ((2, 3, 8, 9), 2, 2, {"ceil_mode": True}),
    ((2, 3, 10, 11), 3, 2, {"ceil_mode": True}),
    ((2, 3, 10, 11), 3, 2, {"ceil_mode": True, "padding": 1}),
    ((2, 3, 7, 7), 2, 3, {"ceil_mode": True, "padding": 1}),  # drops the window past the image
    ((2, 3, 6, 8), 3, 4, {"ceil_mode": True, "padding": ((0, 1), (1, 0))}),
    *(((1, 2, 5, w), 3, 1, {"padding": 1}) for w in range(1, 36)),
    *(((1, 2, 5, w), 2, 2, {}) for w in range(2, 70, 3)),
]

MAX_POOLINGS = [
    *(pool("max_pool2d", x, k, s, **options) for x, k, s, options in POOLINGS),
    *(pool("max_pool2d", x, k, s, return_indices=True, **o) for x, k, s, o in POOLINGS[:28]),
    pool("max_pool2d", (2, 3, 9, 10), 2, 1, dilation=2),
    pool("max_pool2d", (2, 3, 9, 10), (3, 2), 2, dilation=(2, 3), padding=1),
    pool("max_pool2d", (2, 3, 9, 10), 3, 2, dilation=2, padding=1, ceil_mode=True),
    pool("max_pool2d", (2, 3, 9, 10), 3, 3, dilation=3, padding="same"),
    pool("max_pool2d", (1, 2, 11, 40), 2, 1, dilation=7, padding=1),
]

POOLINGS_BY_TAPS = [
    *(Row("max_pool2x2", (x,)) for x, k, s, options in POOLINGS if k == 2 and s in (None, 2) and not options),
    *(Row("max_pool2x2", ((3, 5, h, w),)) for h, w in ((3, 3), (9, 8), (7, 16), (17, 32), (12, 24))),
]

AVERAGE_POOLINGS = [
    *(pool("avg_pool2d", x, k, s, **options) for x, k, s, options in POOLINGS),
    *(pool("avg_pool2d", x, k, s, count_include_pad=False, **o) for x, k, s, o in POOLINGS[:28]),
    pool("avg_pool2d", (2, 3, 9, 10), 3, 2, padding=1, divisor_override=5),
    pool("avg_pool2d", (2, 3, 9, 10), 3, 2, padding=1, ceil_mode=True, divisor_override=1),
]

COLUMNS: list[tuple[Shape, dict[str, Any]]] = [
    ((2, 3, 7, 9), {"kernel_size": 3}),
    ((2, 3, 7, 9), {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2)}),
    ((2, 3, 7, 9), {"kernel_size": (3, 2), "stride": 2, "padding": "same"}),
    ((2, 3, 7, 9), {"kernel_size": 3, "padding": ((1, 0), (2, 3)), "dilation": (2, 1)}),
    ((1, 1, 1, 1), {"kernel_size": 1}),
    ((1, 2, 8, 8), {"kernel_size": 2, "stride": 3}),
    ((1, 2, 8, 8), {"kernel_size": 1, "stride": 2, "padding": 1}),
    ((3, 1, 28, 28), {"kernel_size": 5, "padding": 2}),
    ((1, 16, 40, 40), {"kernel_size": 3, "padding": 1}),
    ((0, 3, 7, 9), {"kernel_size": 3}),
]


def column_rows() -> Iterator[Row]:
    """Give ``im2col`` and, on what it returns, ``col2im``."""
    from fastconv import reference

    for x, options in COLUMNS:
        yield Row("im2col", (x,), options)
        columns = reference.im2col(np.zeros(x), **options).shape
        yield Row("col2im", (columns,), {"output_size": x[2:], **options})


POINTWISE_SHAPES: list[Shape] = [(), (0,), (1,), (7,), (3, 5), (2, 3, 4, 5), (1001,), (3, 70001)]

POINTWISE = [
    *(Row(name, (shape,)) for name in ("relu", "leaky_relu", "sigmoid", "tanh") for shape in POINTWISE_SHAPES),
    Row("leaky_relu", ((40,),), {"negative_slope": 0.1}),
    Row("leaky_relu", ((40,),), {"negative_slope": 0.0}),
    *(Row("softmax", ((3, c),)) for c in (1, 2, 10, 33, 1000)),
    *(Row("softmax", ((4, 5, 6),), {"axis": axis}) for axis in (0, 1, 2, -2)),
    Row("softmax", ((10, 1),), {"axis": 0}),
    Row("softmax", ((10,),)),
    Row("softmax", ((0, 4),)),
    Row("softmax", ((3000, 10),)),
    *(Row("softmax_cross_entropy", ((n, c),)) for n, c in ((1, 2), (32, 10), (5, 1000), (3000, 3))),
    *(Row("softmax_cross_entropy", ((n, c),), {"weighted": True}) for n, c in ((2, 2), (33, 10))),
]

SGD = {"learning_rate": 0.1}
ADAM = {"learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
NADAM = {**ADAM, "momentum_decay": 0.004, "momentum_product": 0.25}
RMSPROP = {"learning_rate": 0.01, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}
UPDATES = [
    *(
        row
        for n in (0, 1, 19, 70001)
        for row in (
            Row("sgd_update", ((n,), (n,)), SGD),
            Row("sgd_update", ((n,), (n,), (n,)), {**SGD, "momentum": 0.9}),
            Row("sgd_update", ((n,), (n,), (n,)), {**SGD, "momentum": 0.9, "nesterov": True}),
            Row("adam_update", ((n,), (n,), (n,), (n,)), {**ADAM, "step": 1}),
            Row("adam_update", ((n,), (n,), (n,), (n,)), {**ADAM, "step": 1000}),
            Row("nadam_update", ((n,), (n,), (n,), (n,)), {**NADAM, "step": 1, "momentum_product": 1.0}),
            Row("nadam_update", ((n,), (n,), (n,), (n,)), {**NADAM, "step": 1000}),
            Row("adagrad_update", ((n,), (n,), (n,)), {"learning_rate": 0.1, "epsilon": 1e-7}),
            Row("adadelta_update", ((n,), (n,), (n,), (n,)), {"learning_rate": 0.1, "rho": 0.95, "epsilon": 1e-6}),
            Row("rmsprop_update", ((n,), (n,), (n,)), RMSPROP),
            Row("rmsprop_update", ((n,), (n,), (n,), (n,)), {**RMSPROP, "momentum": 0.9}),
            Row("rmsprop_update", ((n,), (n,), (n,), (n,)), {**RMSPROP, "centered": True}),
            Row("rmsprop_update", ((n,),) * 5, {**RMSPROP, "momentum": 0.9, "centered": True}),
        )
    ),
]

ROWS: list[Row] = [
    *CONVOLUTIONS,
    *DENSE,
    *MAX_POOLINGS,
    *POOLINGS_BY_TAPS,
    *AVERAGE_POOLINGS,
    pool("pool2d", (2, 3, 9, 10), 3, 2, mode="max", padding=1, dilation=2),
    pool("pool2d", (2, 3, 9, 10), 3, 2, mode="avg", padding=1, count_include_pad=False),
    pool("pool2d", (2, 3, 9, 10), 2),
    *(Row("global_avg_pool2d", (x,)) for x in ((2, 3, 7, 5), (0, 3, 7, 5), (1, 1, 1, 1), (4, 64, 30, 30))),
    *column_rows(),
    *POINTWISE,
    *UPDATES,
]
