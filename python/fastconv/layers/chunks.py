"""Layers that treat each image by itself, a few images at a time.

What a layer writes is soon read by the next one. A chunk of images whose results stay near the processor finds them
there; a large batch would send each of them to memory and fetch it again, which takes as long as a good part of the
arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._validation import Array

CACHE = 3 * 2**21
"""Bytes that a layer's input and output may have together. From 2 to 8 MB one thread is almost equally fast; several
threads share the work of a chunk, and short ones leave them waiting for each other."""


def cut(layers: Sequence[Any], x: Array) -> tuple[int, list[slice]]:
    """Return how many of the first layers go by images, and the chunks of a batch: none where it is one chunk itself.

    Both follow from the shapes alone.
    """
    if not isinstance(x, np.ndarray) or x.ndim == 0 or len(x) == 1:
        return 0, []  # where there is no batch, the first layer says so
    count, largest, _ = _walk(layers, math.prod(x.shape[1:]))
    images = max(1, CACHE // (largest * x.itemsize)) if largest else len(x)
    return (count, list(_chunks(len(x), images))) if len(x) > images else (0, [])


def _walk(layers: Sequence[Any], size: int) -> tuple[int, int, int]:
    """Return how many of the first layers go by images, the most elements between them, and those that come out."""
    count = largest = 0
    for layer in layers:
        # The class itself must say so: one derived from it may do anything.
        if not vars(type(layer)).get("by_image", False) or layer.output_shape is None:
            break
        if hasattr(layer, "layers"):
            inner, inside, _ = _walk(layer.layers, size)
            if inner < len(layer.layers):
                break
            largest = max(largest, inside)
        before, size = size, math.prod(layer.output_shape)
        largest = max(largest, before + size)
        count += 1
    return count, largest, size


def _chunks(count: int, images: int) -> Iterator[slice]:
    """Cut a batch into chunks of at most so many images, as even as they can be."""
    even = -(-count // -(-count // images))
    for start in range(0, count, even):
        yield slice(start, min(start + even, count))
