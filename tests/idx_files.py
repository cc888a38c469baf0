"""IDX files made by hand, as MNIST and its kin come."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MNIST_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(code: int, shape: Sequence[int], payload: bytes) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + payload


def write_mnist(folder: Path, counts: tuple[int, int] = (6, 3), compress: bool = False) -> Any:
    """Four files of 28 x 28 noise under MNIST's names; returns the images and labels in them."""
    rng = np.random.default_rng(0)
    arrays = []
    for count in counts:
        arrays.append(rng.integers(0, 256, (count, 28, 28), np.uint8))
        arrays.append(rng.integers(0, 10, count).astype(np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(MNIST_NAMES, arrays, strict=True):
        content = idx_bytes(0x08, array.shape, array.tobytes())
        path = folder / (name + ".gz" * compress)
        path.write_bytes(gzip.compress(content) if compress else content)
    return arrays
