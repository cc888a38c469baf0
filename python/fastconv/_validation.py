"""Every check of an argument and every message: what the operators refuse, and how they say so.

The order is kind (`TypeError`), then value and shape (`ValueError`), all before anything is allocated. Arrays
come back C-contiguous, aligned and in native byte order: a copy is made only where the input is not.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _call
from fastconv._shapes import integer

Array = npt.NDArray[Any]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)

#: The activations that kernels can fuse: the number they go by in the kernels, and the default slope.
ACTIVATIONS: dict[str | None, tuple[int, float]] = {
    None: (0, 0.0),
    "linear": (0, 0.0),
    "relu": (1, 0.0),
    "leaky_relu": (2, 0.01),
    "sigmoid": (3, 0.0),
    "tanh": (4, 0.0),
}


def _convert(x: object, name: str) -> Array:
    """Turn an odd array into a plain one, or say how to."""
    cure = f"np.asarray({name}, dtype=np.float32)"
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array; received a masked array: fill it first, {name}.filled(0)")
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{name}: expected a NumPy array of float32 or float64; received {type(x).__name__}: use {cure}"
        )
    native = x.dtype.newbyteorder("=")
    if native not in (_FLOAT32, _FLOAT64):
        raise TypeError(f"{name}: expected an array of float32 or float64; received {x.dtype}: use {cure}")
    _call.not_a_kernel()
    # asarray of require's result: subclasses such as np.matrix become plain arrays
    return np.asarray(np.require(x, native, ["C_CONTIGUOUS", "ALIGNED"]))


def array(x: object, name: str) -> Array:
    """Return `x` as a plain float32 or float64 array."""
    if type(x) is not np.ndarray or x.dtype not in (_FLOAT32, _FLOAT64) or not x.flags.carray:
        x = _convert(x, name)
    return x


def axes(x: Array, name: str, ndim: int) -> None:
    """Refuse an array of another number of axes."""
    if x.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} axes; received shape {x.shape}")


def array_like(x: object, name: str, other: Array, other_name: str) -> Array:
    """Return `x` as a plain array of the dtype of `other`."""
    x = array(x, name)
    if x.dtype != other.dtype:
        raise TypeError(
            f"{name}: expected the dtype of {other_name}, {other.dtype}; received {x.dtype}: "
            f"use {name}.astype({other_name}.dtype)"
        )
    return x


def shaped_like(x: object, name: str, shape: tuple[int, ...], why: str, other: Array, other_name: str) -> Array:
    """Return `x` as a plain array of exactly `shape` and of the dtype of `other`."""
    x = array_like(x, name, other, other_name)
    if x.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, {why}; received {x.shape}")
    return x


def no_empty_axes(x: Array, name: str, axes: str) -> None:
    """Refuse an array whose axes after the first are empty; `axes` names them."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{name}: expected {axes} of at least 1; received shape {x.shape}")


def size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse the shape of a result that no memory could hold."""
    elements = math.prod(shape)
    if elements > sys.maxsize // dtype.itemsize:
        raise ValueError(
            f"output: expected at most {sys.maxsize // dtype.itemsize} elements, all that can be "
            f"addressed; received shape {shape} of {elements}"
        )


def out(
    given: object,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: tuple[Array | None, ...],
    *,
    in_place: bool = False,
) -> Array:
    """Return the array that a caller gave for a result, if it fits.

    The inputs are plain; `in_place` allows `given` to be the first of them itself.
    """
    others = inputs[1:] if in_place and given is inputs[0] else inputs
    if _call.fits(given, shape, dtype, others):
        return given  # type: ignore[return-value]
    if not isinstance(given, np.ndarray) or isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"out: expected a NumPy array; received {type(given).__name__}")
    if given.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}; received {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"out: expected shape {shape}; received {given.shape}")
    if not given.flags.carray:
        raise ValueError(
            "out: expected a writable, C-contiguous, aligned array; received one with strides "
            f"{given.strides}{'' if given.flags.writeable else ' that is read-only'}"
        )
    for k, other in enumerate(inputs):
        if (
            other is not None
            and np.shares_memory(given, other)
            and not (in_place and k == 0 and _same_memory(given, other))
        ):
            raise ValueError("out: expected memory of its own; received an array that overlaps an input")
    return given


def outs(
    given: object,
    wants: tuple[bool, bool, bool],
    shapes: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    inputs: tuple[Array, ...],
) -> Any:
    """Return the arrays for three gradients, None for those not wanted; each given one as `out` checks it."""
    targets = _call.results(given, wants, shapes, dtype, inputs)
    if targets is None:
        if not isinstance(given, tuple | list):
            raise TypeError(f"out: expected three arrays or None; received {type(given).__name__}")
        if len(given) != 3:
            raise ValueError(f"out: expected three arrays or None; received {len(given)}")
        checked: list[Array | None] = []
        for want, target, shape in zip(wants, given, shapes, strict=True):
            wanted = want and target is not None
            checked.append(out(target, shape, dtype, (*inputs, *checked)) if wanted else None)
        targets = tuple(
            _call.empty(shape, dtype) if want and target is None else target
            for want, target, shape in zip(wants, checked, shapes, strict=True)
        )
    return targets


def _same_memory(a: Array, b: Array) -> bool:
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides and a.shape == b.shape


def activation(name: object) -> tuple[int, float]:
    """Return the kernels' number and slope of a fused activation."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"activation: expected a name or None; received {name!r} of type {type(name).__name__}")
    try:
        return ACTIVATIONS[name]
    except KeyError:
        names = ", ".join(repr(known) for known in ACTIVATIONS if known)
        raise ValueError(f"activation: expected None or one of {names}; received {name!r}") from None


def groups(value: object, in_channels: int, out_channels: int, weight_channels: int) -> int:
    """Return the number of groups, which must divide both channel counts and fit the weight."""
    count = integer(value, "groups", 1)
    if in_channels % count or out_channels % count:
        raise ValueError(
            f"groups: expected a divisor of {in_channels} input and {out_channels} output channels; received {count}"
        )
    if weight_channels * count != in_channels:
        raise ValueError(
            f"weight: expected {in_channels // count} input channels a group (x has {in_channels}, "
            f"groups = {count}); received {weight_channels}"
        )
    return count


def mask(value: object) -> tuple[bool, bool, bool]:
    """Return output_mask as three booleans."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"output_mask: expected three booleans; received {value!r} of type {type(value).__name__}")
    if len(value) != 3:
        raise ValueError(f"output_mask: expected three booleans; received {len(value)}, {value!r}")
    return bool(value[0]), bool(value[1]), bool(value[2])


def real(value: object, name: str) -> float:
    """Return a real number as a float."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number; received {value!r} of type {type(value).__name__}")
    return float(value)


def at_least_zero(value: object, name: str) -> float:
    """Return `value` as a finite float that is not negative."""
    number = real(value, name)
    if not 0 <= number < math.inf:
        raise ValueError(f"expected {name} to be finite and at least 0; received {value!r}")
    return number


def above_zero(value: object, name: str) -> float:
    """Return `value` as a finite float above 0."""
    number = real(value, name)
    if not 0 < number < math.inf:
        raise ValueError(f"expected {name} to be finite and above 0; received {value!r}")
    return number
