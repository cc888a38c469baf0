"""First values of parameters.

Weights have the shape ``(out, in)`` or ``(out, in, *kernel)``, so ``fan_in = in * prod(kernel)``
and ``fan_out = out * prod(kernel)``. Names and formulas are Keras's; PyTorch's dense and
convolution layers start uniform within ``sqrt(1 / fan_in)`` instead. All draws are made in float64
and rounded once, so that a seed gives the same network in float32 and in float64.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ._config import Configurable, by_name
from ._validation import Array

TRUNCATED_STDDEV = 0.87962566103423978
"""Standard deviation of a standard normal cut at two standard deviations."""


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Count the inputs that reach one output of a weight, and the outputs one input reaches.

    Examples
    --------
    >>> fans((6, 1, 5, 5))
    (25, 150)
    """
    if len(shape) < 2:
        raise ValueError(
            "expected a weight of shape (out, in, *kernel) for an initializer that scales with "
            f"fan_in and fan_out; received {shape}"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


class Initializer(Configurable):
    """Base class: ``initializer(shape, dtype, rng)`` returns a new array.

    Examples
    --------
    >>> class Alternating(Initializer):
    ...     def draw(self, shape, rng):
    ...         return np.resize([1.0, -1.0], shape)
    >>> Alternating()((2, 2))
    array([[ 1., -1.],
           [ 1., -1.]], dtype=float32)
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return float64 values of that shape. Subclasses write this one."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(shape, rng)")

    def __call__(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Draw the first values of a parameter.

        Parameters
        ----------
        shape : tuple of int
            ``(out, in, *kernel)`` for weights, ``(out,)`` for biases.
        dtype : dtype, default float32
        rng : numpy.random.Generator, optional
            Source of random numbers; a fresh one by default.

        Returns
        -------
        ndarray of `shape` and `dtype`
        """
        return self.draw(shape, rng or np.random.default_rng()).astype(dtype, copy=False)


class Zeros(Initializer):
    """All 0: right for biases. Zero weights keep the units of a layer identical for ever."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return zeros."""
        return np.zeros(shape)


class Ones(Initializer):
    """All 1."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return ones."""
        return np.ones(shape)


class Constant(Initializer):
    """All `value`.

    Parameters
    ----------
    value : float, default 0
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = float(value)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return the constant."""
        return np.full(shape, self.value)


class RandomNormal(Initializer):
    """Normal, with `mean` and standard deviation `stddev`.

    Parameters
    ----------
    mean : float, default 0
    stddev : float, default 0.05
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05) -> None:
        self.mean = float(mean)
        self.stddev = _positive("stddev", stddev)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return normal values."""
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(RandomNormal):
    """Normal, with values beyond two standard deviations drawn again.

    Parameters
    ----------
    mean : float, default 0
    stddev : float, default 0.05
        Of the normal before it is cut.
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return normal values inside two standard deviations."""
        return self.mean + self.stddev * _standard_truncated_normal(shape, rng)


class RandomUniform(Initializer):
    """Uniform between `minval` and `maxval`.

    Parameters
    ----------
    minval, maxval : float, default -0.05 and 0.05
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05) -> None:
        self.minval, self.maxval = float(minval), float(maxval)
        if not self.minval < self.maxval:
            raise ValueError(f"expected minval < maxval; received {minval!r} and {maxval!r}")

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return uniform values."""
        return rng.uniform(self.minval, self.maxval, shape)


class _Scaled(Initializer):
    """Variance ``gain / fan``, so that signals keep their size from layer to layer."""

    gain: ClassVar[float] = 1.0
    average: ClassVar[bool] = False

    def _standard_deviation(self, shape: tuple[int, ...]) -> float:
        fan_in, fan_out = fans(shape)
        fan = (fan_in + fan_out) / 2 if self.average else fan_in
        return math.sqrt(self.gain / max(1, fan))


class _ScaledUniform(_Scaled):
    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return values uniform between plus and minus ``sqrt(3 * variance)``."""
        limit = math.sqrt(3) * self._standard_deviation(shape)
        return rng.uniform(-limit, limit, shape)


class _ScaledNormal(_Scaled):
    """As in Keras, the normal is cut at two standard deviations and widened to the variance."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return truncated normal values of that variance."""
        stddev = self._standard_deviation(shape) / TRUNCATED_STDDEV
        return stddev * _standard_truncated_normal(shape, rng)


class GlorotUniform(_ScaledUniform):
    """Uniform within ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio, 2010, equation 16).

    Examples
    --------
    >>> w = GlorotUniform()((50, 100), rng=np.random.default_rng(0))
    >>> bool(abs(w).max() <= np.sqrt(6 / 150))
    True
    """

    average = True


class GlorotNormal(_ScaledNormal):
    """Truncated normal of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""

    average = True


class HeUniform(_ScaledUniform):
    """Uniform within ``sqrt(6 / fan_in)``, for ReLU (He et al., 2015)."""

    gain = 2.0


class HeNormal(_ScaledNormal):
    """Truncated normal of variance ``2 / fan_in``, for ReLU (He et al., 2015, equation 10)."""

    gain = 2.0


class LecunUniform(_ScaledUniform):
    """Uniform within ``sqrt(3 / fan_in)`` (LeCun et al., 1998)."""


class LecunNormal(_ScaledNormal):
    """Truncated normal of variance ``1 / fan_in`` (LeCun et al., 1998, equation 16)."""


class Orthogonal(Initializer):
    """Rows, or columns where there are fewer, at right angles and of length `gain`.

    Saxe, McClelland and Ganguli, 2014. A weight of more than two axes is taken for a matrix (out, everything else),
    as in PyTorch.

    Parameters
    ----------
    gain : float, default 1

    Examples
    --------
    >>> w = Orthogonal()((2, 3), np.float64, np.random.default_rng(0))
    >>> np.allclose(w @ w.T, np.eye(2))
    True
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = float(gain)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return the orthogonal factor of a random matrix, each of its signs as likely as the other."""
        fans(shape)  # refuses what is no matrix
        rows, columns = shape[0], math.prod(shape[1:])
        factor, triangle = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        factor *= np.where(np.diag(triangle) < 0, -1, 1)
        values: Array = self.gain * (factor.T if rows < columns else factor).reshape(shape)
        return values


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"expected {name} above 0; received {value!r}")
    return float(value)


def _standard_truncated_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(np.count_nonzero(outside))
    return values


NAMES: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
    "xavier_uniform": GlorotUniform,
    "xavier_normal": GlorotNormal,
    "kaiming_uniform": HeUniform,
    "kaiming_normal": HeNormal,
}

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "Zeros",
    "get",
]


def get(initializer: str | Initializer | type[Initializer], argument: str) -> Initializer:
    """Return an initializer from its name, its class or itself; `argument` names it in errors."""
    return by_name(argument, initializer, Initializer, NAMES)
