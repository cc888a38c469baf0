"""Data as users have them, made ready once, then served batch by batch.

Everything that can be wrong with data is found here, before the first step. A shuffled batch is
gathered into one buffer that every step reuses; data of another dtype, such as the bytes of an
image, are converted batch by batch, so that a data set is never held twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from .._shapes import integer
from .._validation import Array, real

Batch: TypeAlias = tuple[Array, Array, Array | None]
Triple: TypeAlias = tuple[Any, Any, Any]


def as_samples(x: Any, name: str) -> Array:
    """Return real numbers with a batch axis as an array, of whatever real dtype they have.

    Raises
    ------
    TypeError
        For complex numbers, text, objects and masked arrays.
    ValueError
        For a scalar or a ragged list.
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"expected {name} to be an array; received a masked one: {name}.filled(0)")
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"expected {name} to be an array; received a ragged sequence") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"expected {name} to hold real numbers; received dtype {array.dtype}: np.asarray({name}, dtype=np.float32)"
        )
    if array.ndim == 0:
        raise ValueError(f"expected {name} with a batch axis; received a single number")
    return array


def check_inputs(x: Array, input_shape: tuple[int, ...]) -> Array:
    """Return `x` if its samples have that shape, or say how to make them.

    One-dimensional data become a column where a sample is a single number, as in Keras.
    """
    if x.ndim == 1 and input_shape == (1,):
        return x[:, np.newaxis]
    if x.shape[1:] == input_shape:
        return x
    cure = ""
    if x.shape == input_shape:
        cure = ": one sample is a batch of one, x[np.newaxis]"
    elif input_shape[:1] == (1,) and x.shape[1:] == input_shape[1:]:
        cure = ": add the channel axis, x[:, np.newaxis]"
    elif x.ndim > 2 and x.shape[1:] == (*input_shape[1:], input_shape[0]):
        cure = ": channels come first, np.moveaxis(x, -1, 1)"
    elif math.prod(x.shape[1:]) == math.prod(input_shape):
        cure = f": x.reshape(-1, {', '.join(map(str, input_shape))})"
    raise ValueError(f"expected x of shape ({', '.join(map(str, ('N', *input_shape)))}); received {x.shape}{cure}")


def check_lengths(x: Array, y: Array) -> None:
    """Refuse samples without targets, targets without samples, and nothing at all."""
    if len(x) != len(y):
        raise ValueError(f"expected x and y of one length; received {len(x)} samples and {len(y)} targets")
    if len(x) == 0:
        raise ValueError("expected at least one sample; received none")


def weight_of_samples(
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    y: Array,
    classes: int,
    dtype: np.dtype[Any],
) -> Array | None:
    """Return one weight a sample, the product of both kinds, or None without any.

    Parameters
    ----------
    sample_weight : array_like (N,) or None
    class_weight : mapping of label to weight, or None
        Labels it leaves out weigh 1.
    y : ndarray
        Targets of a cross-entropy, prepared.
    classes : int
        The model's outputs.
    """
    weight = None
    if sample_weight is not None:
        weight = as_samples(sample_weight, "sample_weight").astype(dtype)
        if weight.shape != (len(y),):
            raise ValueError(f"expected sample_weight of shape ({len(y)},), one a sample; received {weight.shape}")
        _check_finite(weight, "sample_weight")
    if class_weight is None:
        return weight
    of_class = np.ones(max(2, classes), dtype)
    for label, value in class_weight.items():
        if integer(label, "class_weight, a label", 0) >= len(of_class):
            raise ValueError(f"expected labels 0 to {len(of_class) - 1} in class_weight; received {label}")
        of_class[label] = real(value, "class_weight, a weight")
    _check_finite(of_class, "class_weight")
    labels = y if y.ndim == 1 else y.argmax(axis=1) if classes > 1 else (y[:, 0] > 0.5).astype(int)
    return of_class[labels] if weight is None else weight * of_class[labels]


def _check_finite(weights: Array, name: str) -> None:
    if not np.isfinite(weights).all():
        raise ValueError(f"expected finite numbers in {name}; received NaN or infinity")


def split(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[Triple, Triple | None]:
    """Divide data into a training part and, from their end, a `share` to validate on."""
    share = real(share, "validation_split")
    if share == 0:
        return (x, y, sample_weight), None
    if not 0 < share < 1:
        raise ValueError(f"expected validation_split at least 0 and below 1; received {share}")
    arrays = [
        None if array is None else as_samples(array, name)
        for array, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
    ]
    count = len(arrays[0]) if arrays[0] is not None else 0
    kept = math.floor(count * (1 - share))
    if kept in (0, count):
        raise ValueError(f"expected validation_split to leave samples on both sides; received {share} of {count}")
    for array in arrays[1:]:
        if array is not None and len(array) != count:
            raise ValueError(f"expected x, y and sample_weight of one length; received {count} and {len(array)}")
    first = [None if array is None else array[:kept] for array in arrays]
    second = [None if array is None else array[kept:] for array in arrays]
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])


def validation_triple(data: Any) -> Triple:
    """Return (x, y, sample_weight or None) from what users pass as ``validation_data``."""
    if not isinstance(data, (list, tuple)) or len(data) not in (2, 3):
        raise ValueError(
            "expected validation_data as (x, y) or (x, y, sample_weight); received "
            f"{type(data).__name__}{f' of {len(data)}' if isinstance(data, (list, tuple)) else ''}"
        )
    return data[0], data[1], data[2] if len(data) == 3 else None


class Batches:
    """Checked arrays, and the batches they fall into.

    Parameters
    ----------
    x : ndarray (N, ...), of any real dtype
    y : ndarray (N, ...)
    weight : ndarray (N,) or None
    batch_size : int
    dtype : numpy.dtype
        Of the batches of `x`.
    """

    def __init__(self, x: Array, y: Array, weight: Array | None, batch_size: int, dtype: np.dtype[Any]) -> None:
        self.arrays = [np.ascontiguousarray(a) for a in (x, y, weight) if a is not None]
        self.size = len(x)
        self.batch_size = min(batch_size, self.size)
        self.dtype = dtype
        self._buffers: list[Array] | None = None
        self._converted: Array | None = None

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.size // self.batch_size)

    def batches(self, order: np.random.Generator | None = None) -> Iterator[Batch]:
        """Serve the batches; a generator serves them shuffled, each valid until the next."""
        return self._ordered() if order is None else self._shuffled(order)

    def _ordered(self) -> Iterator[Batch]:
        size = self.batch_size
        for start in range(0, self.size, size):
            yield self._batch([array[start : start + size] for array in self.arrays])

    def _shuffled(self, rng: np.random.Generator) -> Iterator[Batch]:
        order = rng.permutation(self.size)
        size = self.batch_size
        if self._buffers is None:
            self._buffers = [np.empty((size, *a.shape[1:]), a.dtype) for a in self.arrays]
        buffers = self._buffers
        for start in range(0, self.size, size):
            index = order[start : start + size]
            if len(index) < size:
                buffers = [buffer[: len(index)] for buffer in buffers]
            for array, buffer in zip(self.arrays, buffers, strict=True):
                # "clip" writes to the buffer directly, "raise" would go through a copy of it.
                array.take(index, 0, buffer, "clip")
            yield self._batch(buffers)

    def _batch(self, arrays: list[Array]) -> Batch:
        x = arrays[0]
        if x.dtype != self.dtype:
            if self._converted is None:
                self._converted = np.empty((self.batch_size, *x.shape[1:]), self.dtype)
            converted = self._converted[: len(x)]
            np.copyto(converted, x)
            x = converted
        return x, arrays[1], arrays[2] if len(arrays) == 3 else None
