"""The networks whose training is timed: one neutral description that every library builds from.

LeNet-5 as of 1998 but with ReLU and max pooling, the two-layer MNIST network of the tutorials,
Keras's four-layer CIFAR network, and the convolutions of ResNet-20 in a chain, without shortcuts and
normalisation, for which the library has no layers yet. All without dropout, which would time random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Conv:
    """Convolution and ReLU; ``padding`` is ``"valid"``, or ``"same"`` for half a kernel on each side."""

    filters: int
    kernel_size: int
    padding: str = "valid"
    stride: int = 1

    @property
    def pad(self) -> int:
        """Rows and columns added on each side."""
        return self.kernel_size // 2 if self.padding == "same" else 0


@dataclass(frozen=True)
class Pool:
    """Max pooling over 2 x 2 pixels, stride 2."""


@dataclass(frozen=True)
class Mean:
    """The mean of each channel over its pixels."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer, the first one on flattened NCHW; ReLU unless it gives the logits."""

    units: int
    relu: bool = True


LayerSpec: TypeAlias = Conv | Pool | Mean | Dense


@dataclass(frozen=True)
class Network:
    """A chain of layers that ends in the logits of ten classes.

    Examples
    --------
    >>> lenet = NETWORKS["LeNet-5"]
    >>> sum(array.size for pair in lenet.parameters() for array in pair)
    61706
    >>> lenet.training_flops
    2263920
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[LayerSpec, ...]

    def weight_shapes(self) -> list[tuple[tuple[int, ...], int]]:
        """Return for each layer with weights their shape and the output pixels each is used for."""
        channels, rows, columns = self.input_shape
        shapes: list[tuple[tuple[int, ...], int]] = []
        for layer in self.layers:
            if isinstance(layer, Conv):
                shrink = layer.kernel_size - 2 * layer.pad
                rows, columns = ((size - shrink) // layer.stride + 1 for size in (rows, columns))
                kernel = (layer.kernel_size, layer.kernel_size)
                shapes.append(((layer.filters, channels, *kernel), rows * columns))
                channels = layer.filters
            elif isinstance(layer, Pool):
                rows, columns = rows // 2, columns // 2
            elif isinstance(layer, Mean):
                rows, columns = 1, 1
            else:
                shapes.append(((layer.units, channels * rows * columns), 1))
                channels, rows, columns = layer.units, 1, 1
        return shapes

    def parameters(self) -> list[tuple[Array, Array]]:
        """Return He-initialised float32 weights, OIHW or (units, inputs), and zero biases."""
        rng = np.random.default_rng(0)
        pairs = []
        for shape, _ in self.weight_shapes():
            weight = rng.standard_normal(shape, dtype=np.float32)
            weight *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
            pairs.append((weight, np.zeros(shape[0], dtype=np.float32)))
        return pairs

    @property
    def training_flops(self) -> int:
        """Multiplications and additions of an image's step in convolutions and dense layers.

        Forward, grad-weight and grad-input cost the same; the first layer needs no grad-input.
        """
        return 3 * self.inference_flops - self._flops()[0]

    @property
    def inference_flops(self) -> int:
        """Multiplications and additions of an image's forward pass, likewise."""
        return sum(self._flops())

    def _flops(self) -> list[int]:
        return [2 * int(np.prod(shape)) * pixels for shape, pixels in self.weight_shapes()]


@dataclass(frozen=True)
class Batch:
    """Images and labels of one step. Their content is random: it does not change the work."""

    x: Array
    y: Array

    @classmethod
    def random(cls, network: Network, size: int) -> Batch:
        """Make ``size`` images as the network takes them, the same in every run."""
        rng = np.random.default_rng(1)
        x = rng.random((size, *network.input_shape), dtype=np.float32)
        return cls(x, rng.integers(0, 10, size))


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network(
            "LeNet-5",
            (1, 28, 28),
            (
                *(Conv(6, 5, "same"), Pool(), Conv(16, 5), Pool()),
                *(Dense(120), Dense(84), Dense(10, relu=False)),
            ),
        ),
        Network(
            "MNIST CNN",
            (1, 28, 28),
            (Conv(32, 3), Conv(64, 3), Pool(), Dense(128), Dense(10, relu=False)),
        ),
        Network(
            "CIFAR CNN",
            (3, 32, 32),
            (
                *(Conv(32, 3, "same"), Conv(32, 3, "same"), Pool()),
                *(Conv(64, 3, "same"), Conv(64, 3, "same"), Pool()),
                *(Dense(512), Dense(10, relu=False)),
            ),
        ),
        Network(
            "ResNet-20 chain",
            (3, 32, 32),
            (
                *(Conv(16, 3, "same"),) * 7,
                *(Conv(32, 3, "same", stride=2), *(Conv(32, 3, "same"),) * 5),
                *(Conv(64, 3, "same", stride=2), *(Conv(64, 3, "same"),) * 5),
                *(Mean(), Dense(10, relu=False)),
            ),
        ),
    )
}
