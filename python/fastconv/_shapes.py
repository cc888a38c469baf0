"""Output sizes and padding: the one place that knows the arithmetic of windows.

    out = floor((size + before + after - dilation*(kernel - 1) - 1) / stride) + 1

All arithmetic is on Python integers, so that no size overflows before it is judged.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

#: Rows or columns beyond which no array exists; far below 2**63, so that the kernels' sums cannot overflow.
LARGEST = 2**44

Pair = tuple[int, int]
#: ((top, bottom), (left, right))
Padding = tuple[Pair, Pair]


class Geometry(NamedTuple):
    """What a window operator needs to know about one image size."""

    out_height: int
    out_width: int
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair


def index(value: object, name: str, expected: str = "an int") -> int:
    """Return an integer of any kind as a plain int; no bool, no float."""
    try:
        if not isinstance(value, bool | np.bool_):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(f"{name}: expected {expected}; received {value!r} of type {type(value).__name__}")


def integer(value: object, name: str, minimum: int) -> int:
    """Return a plain int of at least `minimum`, and of at most 2**62, which overflows nowhere."""
    number = value if type(value) is int else index(value, name)
    if number < minimum:
        raise ValueError(f"{name}: expected at least {minimum}; received {number}")
    if number > 2**62:
        raise ValueError(f"{name}: expected at most 2**62; received {number}")
    return number


def plain(value: Any, name: str) -> Any:
    """Return an int or a tuple of ints, from integers of any kind in tuples or lists; padding may be a string.

    This judges kinds alone, before any value is judged. What it returns may be the key of a cache: True and 1.0
    equal 1, and would be taken for it.
    """
    if type(value) is int:
        return value
    if type(value) is tuple:
        for part in value:
            if type(part) is not int:
                break
        else:
            return value
    if isinstance(value, tuple | list):
        return tuple(plain(part, name) if isinstance(part, tuple | list) else index(part, name) for part in value)
    if name == "padding" and isinstance(value, str):
        return value
    return index(value, name, "an int or a pair of ints")


def check_kinds(stride: object, padding: object, dilation: object, kernel_size: object = 1) -> None:
    """Refuse the arguments of a window that are of the wrong kind, before any value is judged."""
    plain(kernel_size, "kernel_size")
    plain(stride, "stride")
    plain(padding, "padding")
    plain(dilation, "dilation")


def pair(value: object, name: str, minimum: int) -> Pair:
    """Return (rows, columns) from an int or a pair of ints of at least `minimum`."""
    value = plain(value, name)
    if not isinstance(value, tuple):
        number = integer(value, name, minimum)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{name}: expected an int or a pair; received {len(value)} values, {value!r}")
    return integer(value[0], name, minimum), integer(value[1], name, minimum)


def _resolve_padding(padding: object, sizes: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            sides = [
                max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
                for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
            ]
            return (sides[0] // 2, sides[0] - sides[0] // 2), (
                sides[1] // 2,
                sides[1] - sides[1] // 2,
            )
        raise ValueError(
            f'padding: expected an int, a pair, ((top, bottom), (left, right)), "valid" or "same"; received {padding!r}'
        )
    if isinstance(padding, tuple) and any(isinstance(side, tuple) for side in padding):
        if len(padding) != 2:
            raise ValueError(f"padding: expected ((top, bottom), (left, right)); received {padding!r}")
        return pair(padding[0], "padding (top, bottom)", 0), pair(padding[1], "padding (left, right)", 0)
    rows, columns = pair(padding, "padding", 0)
    return (rows, rows), (columns, columns)


def _output_size(axis: str, size: int, kernel: int, stride: int, padding: Pair, dilation: int, ceil_mode: bool) -> int:
    padded = size + padding[0] + padding[1]
    reach = dilation * (kernel - 1) + 1
    formula = (
        f"output {axis} = floor(({size} + {padding[0]} + {padding[1]} - {dilation}*({kernel} - 1) - 1) / {stride}) + 1"
    )
    if reach > padded:
        raise ValueError(
            f"kernel_size: expected a span of at most {padded}, the padded {axis}; received {reach} "
            f"(kernel {kernel}, dilation {dilation}): {formula}"
        )
    if padded > LARGEST:
        raise ValueError(f"padding: expected a padded {axis} of at most {LARGEST}; received {padded}")
    stride = min(stride, padded)  # a longer step takes one window all the same
    span = padded - reach
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    # PyTorch's rule: the last window must start inside the image or its leading padding.
    return out - 1 if (out - 1) * stride >= size + padding[0] else out


@lru_cache(maxsize=1024)
def _geometry(
    height: int, width: int, kernel_size: object, stride: object, padding: object, dilation: object, ceil_mode: bool
) -> Geometry:
    kernel = pair(kernel_size, "kernel_size", 1)
    strides = pair(stride, "stride", 1)
    dilations = pair(dilation, "dilation", 1)
    sides = _resolve_padding(padding, (height, width), kernel, strides, dilations)
    return Geometry(
        _output_size("height", height, kernel[0], strides[0], sides[0], dilations[0], ceil_mode),
        _output_size("width", width, kernel[1], strides[1], sides[1], dilations[1], ceil_mode),
        kernel,
        strides,
        sides,
        dilations,
    )


def geometry(
    height: int,
    width: int,
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool = False,
) -> Geometry:
    """Resolve a window over an image of height x width; errors show the formula with its numbers."""
    return _geometry(
        height,
        width,
        plain(kernel_size, "kernel_size"),
        plain(stride, "stride"),
        plain(padding, "padding"),
        plain(dilation, "dilation"),
        ceil_mode,
    )


def check_pool_padding(padding: Padding, kernel: Pair) -> None:
    """Refuse pooling windows that could lie in the padding alone."""
    for sides, size in zip(padding, kernel, strict=True):
        if max(sides) > size // 2:
            raise ValueError(
                f"padding: expected at most half the kernel, {size // 2}, on each side of a pooling "
                f"window; received {max(sides)} for a kernel of {size}"
            )
