"""The convolutions on which every speed claim is measured: one list, and the arithmetic of a shape.

They come from LeNet-5, the usual MNIST and CIFAR networks, ResNets, and the corners where libraries
are weak: first layers, tails, depthwise, groups, dilation, one dimension, a single image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PASSES = ("forward", "grad_input", "grad_weight")


@dataclass(frozen=True)
class ConvShape:
    """One two-dimensional convolution, named by the field's letters.

    Examples
    --------
    >>> shape = ConvShape(64, 1, 28, 28, 6, 5, 5, padding=(2, 2))
    >>> shape.label, shape.output_size, shape.passes
    ('64,1,28,28,6,5,5,1,2', (28, 28), ('forward', 'grad_weight'))
    """

    # N, C, H, W: images, channels, rows, columns; K: filters; R, S: kernel rows and columns.
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    dilation: int = 1

    @property
    def label(self) -> str:
        """The shape as ``N,C,H,W,K,R,S,stride,padding`` and what is unusual about it."""
        rows, columns = self.padding
        padding = str(rows) if rows == columns else f"({rows},{columns})"
        numbers = (self.n, self.c, self.h, self.w, self.k, self.r, self.s, self.stride)
        label = ",".join(map(str, numbers)) + f",{padding}"
        if self.groups > 1:
            label += " depthwise" if self.groups == self.c else f" groups {self.groups}"
        if self.dilation > 1:
            label += f" dilation {self.dilation}"
        return label

    @property
    def output_size(self) -> tuple[int, int]:
        """Rows and columns of the output: floor((n + 2p - d(f - 1) - 1) / s) + 1."""
        rows = self.h + 2 * self.padding[0] - self.dilation * (self.r - 1) - 1
        columns = self.w + 2 * self.padding[1] - self.dilation * (self.s - 1) - 1
        return rows // self.stride + 1, columns // self.stride + 1

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input, NCHW."""
        return self.n, self.c, self.h, self.w

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights, OIHW."""
        return self.k, self.c // self.groups, self.r, self.s

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, NCHW."""
        return self.n, self.k, *self.output_size

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that count: a first layer (C <= 3) is never asked for its grad-input."""
        return tuple(name for name in PASSES if self.c > 3 or name != "grad_input")

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass, the same for all three, padding included."""
        rows, columns = self.output_size
        return 2 * self.n * self.k * rows * columns * (self.c // self.groups) * self.r * self.s

    @property
    def fewest_flops(self) -> int:
        """Operations of the fewest products known: Winograd's F(2x2, 3x3) has 16 where the sum has 36."""
        short = (self.r, self.s, self.stride) == (3, 3, 1) and self.groups == 1
        return self.flops * 16 // 36 if short else self.flops

    @property
    def elements(self) -> int:
        """Elements of input, weights and output together: what one pass must read or write."""
        rows, columns = self.output_size
        weights = self.k * (self.c // self.groups) * self.r * self.s
        return self.n * (self.c * self.h * self.w + self.k * rows * columns) + weights

    def sum_length(self, pass_name: str) -> int:
        """Products added up in one element of the result of ``pass_name``."""
        rows, columns = self.output_size
        return {
            "forward": self.c // self.groups * self.r * self.s,
            "grad_input": self.k // self.groups * self.r * self.s,
            "grad_weight": self.n * rows * columns,
        }[pass_name]


SHAPES: tuple[ConvShape, ...] = (
    ConvShape(64, 1, 28, 28, 6, 5, 5, padding=(2, 2)),
    ConvShape(64, 6, 14, 14, 16, 5, 5),
    ConvShape(64, 1, 28, 28, 32, 3, 3),
    ConvShape(64, 32, 26, 26, 64, 3, 3),
    ConvShape(128, 3, 32, 32, 32, 3, 3, padding=(1, 1)),
    ConvShape(64, 32, 32, 32, 32, 3, 3, padding=(1, 1)),
    ConvShape(128, 16, 32, 32, 16, 3, 3, padding=(1, 1)),
    ConvShape(128, 16, 32, 32, 32, 3, 3, stride=2, padding=(1, 1)),
    ConvShape(128, 32, 16, 16, 32, 3, 3, padding=(1, 1)),
    ConvShape(64, 64, 16, 16, 64, 3, 3, padding=(1, 1)),
    ConvShape(128, 64, 8, 8, 128, 3, 3, padding=(1, 1)),
    ConvShape(128, 128, 8, 8, 128, 3, 3, padding=(1, 1)),
    ConvShape(32, 8, 32, 32, 8, 5, 5, padding=(2, 2)),
    ConvShape(1, 512, 4, 4, 512, 3, 3, padding=(1, 1)),
    ConvShape(8, 3, 224, 224, 64, 7, 7, stride=2, padding=(3, 3)),
    ConvShape(8, 64, 56, 56, 64, 3, 3, padding=(1, 1)),
    ConvShape(8, 256, 14, 14, 256, 3, 3, padding=(1, 1)),
    ConvShape(8, 512, 7, 7, 512, 3, 3, padding=(1, 1)),
    ConvShape(8, 64, 56, 56, 256, 1, 1),
    ConvShape(8, 1024, 14, 14, 256, 1, 1),
    ConvShape(8, 256, 56, 56, 512, 1, 1, stride=2),
    ConvShape(4, 64, 112, 112, 128, 3, 3, padding=(1, 1)),
    ConvShape(8, 128, 56, 56, 128, 3, 3, padding=(1, 1), groups=128),
    ConvShape(8, 128, 56, 56, 128, 3, 3, padding=(1, 1), groups=32),
    ConvShape(8, 19, 13, 13, 33, 3, 3, padding=(1, 1)),
    ConvShape(8, 64, 32, 32, 64, 3, 3, padding=(2, 2), dilation=2),
    ConvShape(16, 64, 1, 1024, 64, 1, 9, padding=(0, 4)),
    ConvShape(1, 1, 28, 28, 6, 5, 5, padding=(2, 2)),
    ConvShape(1, 32, 32, 32, 32, 3, 3, padding=(1, 1)),
)


def select(text: str, shapes: Sequence[ConvShape] = SHAPES) -> list[tuple[ConvShape, str]]:
    """Cases, a shape and a pass each, whose name holds every word of ``text``.

    A case's name is its label, its pass and its kernel size, so that ``"3x3 forward"`` works.

    Examples
    --------
    >>> [(shape.label, name) for shape, name in select("dilation grad_input")]
    [('8,64,32,32,64,3,3,1,2 dilation 2', 'grad_input')]
    """
    cases = [(shape, name) for shape in shapes for name in shape.passes]
    words = text.split()
    return [
        (shape, name)
        for shape, name in cases
        if all(word in f"{shape.label} {name} {shape.r}x{shape.s}" for word in words)
    ]
