"""Optimizer steps over flat buffers: one fused pass over parameters, gradients and state, in place."""

from __future__ import annotations

from fastconv import _dispatch, _shapes
from fastconv import _validation as check
from fastconv._call import Plans, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_update = _dispatch.Kernels("update")
_sgd, _adam = Plans(), Plans()


def _buffers(parameters: Array, gradients: Array, **state: Array) -> Array:
    """Refuse buffers that are not flat and of one length and dtype, and state that is not writable.

    Returns the gradients, copied where a kernel could not read them as they lie.
    """
    gradients = check.array(gradients, "gradients")
    for name, buffer in {"parameters": parameters, "gradients": gradients, **state}.items():
        plain = check.array(buffer, name)
        if plain.dtype != parameters.dtype:
            raise TypeError(f"{name}: expected the dtype of parameters, {parameters.dtype}; received {plain.dtype}")
        check.axes(plain, name, 1)
        if plain.shape != parameters.shape:
            raise ValueError(f"{name}: expected shape {parameters.shape}, that of parameters; received {plain.shape}")
        if name != "gradients" and (plain is not buffer or not buffer.flags.writeable):
            raise ValueError(
                f"{name}: expected a writable, C-contiguous array in native byte order, because it is "
                f"updated in place; received one with strides {buffer.strides}, dtype {buffer.dtype!r}"
            )
    return gradients


def sgd_update(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Take one step of stochastic gradient descent, in place.

    ``velocity = momentum*velocity - learning_rate*gradient; parameter += velocity``, and with `nesterov`
    ``parameter += momentum*velocity - learning_rate*gradient`` (Sutskever et al. 2013, in Keras's form).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    velocity : ndarray (P,) or None
        State, zero before the first step; None where `momentum` is 0.
    learning_rate, momentum : float
        Step size and decay.
    nesterov : bool
        Look ahead.

    Raises
    ------
    TypeError, ValueError
        Buffers that do not fit each other, or momentum without a velocity.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import sgd_update
    >>> p = np.ones(2)
    >>> sgd_update(p, np.array([1.0, 2.0]), None, 0.5)
    >>> p
    array([0.5, 0. ])
    """
    rate, decay = check.real(learning_rate, "learning_rate"), check.real(momentum, "momentum")
    kernel = _sgd.find(parameters, gradients, velocity)
    if kernel is None:
        gradients = _buffers(parameters, gradients, **({} if velocity is None else {"velocity": velocity}))
        kernel = _update[parameters.dtype.char].sgd
        _sgd.keep(kernel, parameters, gradients, velocity)
    if velocity is None and decay != 0.0:
        raise ValueError(f"velocity: expected an array where momentum is not 0; received None, momentum {decay}")
    run(kernel, parameters, gradients, velocity, rate, decay, bool(nesterov), get_num_threads())


def adam_update(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
) -> None:
    """Take one step of Adam, in place.

    ``m = beta_1*m + (1 - beta_1)*g; v = beta_2*v + (1 - beta_2)*g**2;
    p -= learning_rate * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)``
    (Kingma and Ba 2015, algorithm 1; PyTorch's form).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    first_moment, second_moment : ndarray (P,)
        State, zero before the first step.
    learning_rate, beta_1, beta_2, epsilon : float
        Step size, decay of the two moments, and what is added to the root.
    step : int
        t, counted from 1.

    Raises
    ------
    TypeError, ValueError
        Buffers that do not fit each other, or a step below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import adam_update
    >>> p, m, v = np.ones(1), np.zeros(1), np.zeros(1)
    >>> adam_update(p, np.array([3.0]), m, v, 0.1, 0.9, 0.999, 1e-7, 1)
    >>> p.round(6)
    array([0.9])
    """
    rate = check.real(learning_rate, "learning_rate")
    decays = check.real(beta_1, "beta_1"), check.real(beta_2, "beta_2")
    term = check.real(epsilon, "epsilon")
    step = _shapes.integer(step, "step", 1)
    kernel = _adam.find(parameters, gradients, first_moment, second_moment)
    if kernel is None:
        gradients = _buffers(parameters, gradients, first_moment=first_moment, second_moment=second_moment)
        kernel = _update[parameters.dtype.char].adam
        _adam.keep(kernel, parameters, gradients, first_moment, second_moment)
    run(kernel, parameters, gradients, first_moment, second_moment, rate, *decays, term, step, get_num_threads())
