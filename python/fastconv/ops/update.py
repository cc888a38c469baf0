"""Optimizer steps over flat buffers: one fused pass over parameters, gradients and state, in place."""

from __future__ import annotations

from fastconv import _dispatch, _shapes
from fastconv import _validation as check
from fastconv._call import Plans, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_update = _dispatch.Kernels("update")
_sgd, _adam, _nadam, _adagrad, _adadelta, _rmsprop = (Plans() for _ in range(6))


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
    rate /= 1 - decays[0] ** step
    run(kernel, parameters, gradients, first_moment, second_moment, rate, 0.0, *decays, term, step, get_num_threads())


def nadam_update(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    momentum_decay: float,
    momentum_product: float,
    step: int,
) -> float:
    """Take one step of Nadam, Adam with Nesterov's momentum, in place.

    With ``u_t = beta_1 * (1 - 0.96**(t*momentum_decay) / 2)``, U the product of u_1 .. u_t, and m and v as in Adam:
    ``p -= learning_rate * (u_(t+1)*m / (1 - U*u_(t+1)) + (1 - u_t)*g / (1 - U)) / (sqrt(v / (1 - beta_2**t)) +
    epsilon)`` (Dozat 2016, in PyTorch's form; Keras's has a `momentum_decay` of 1).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    first_moment, second_moment : ndarray (P,)
        State, zero before the first step.
    learning_rate, beta_1, beta_2, epsilon : float
        As in `adam_update`.
    momentum_decay : float
        How fast u rises to beta_1.
    momentum_product : float
        The product of u_1 .. u_(t-1): 1 before the first step, and then what the step before returned.
    step : int
        t, counted from 1.

    Returns
    -------
    float
        The product of u_1 .. u_t.

    Raises
    ------
    TypeError, ValueError
        As `adam_update`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import nadam_update
    >>> p, m, v = np.ones(1), np.zeros(1), np.zeros(1)
    >>> nadam_update(p, np.array([3.0]), m, v, 0.1, 0.9, 0.999, 1e-7, 1.0, 1.0, 1)
    0.468
    """
    rate = check.real(learning_rate, "learning_rate")
    decays = check.real(beta_1, "beta_1"), check.real(beta_2, "beta_2")
    term = check.real(epsilon, "epsilon")
    psi, product = check.real(momentum_decay, "momentum_decay"), check.real(momentum_product, "momentum_product")
    step = _shapes.integer(step, "step", 1)
    kernel = _nadam.find(parameters, gradients, first_moment, second_moment)
    if kernel is None:
        gradients = _buffers(parameters, gradients, first_moment=first_moment, second_moment=second_moment)
        kernel = _update[parameters.dtype.char].adam
        _nadam.keep(kernel, parameters, gradients, first_moment, second_moment)
    momentum, later = (decays[0] * (1 - 0.5 * 0.96 ** (t * psi)) for t in (step, step + 1))
    product *= momentum
    of_mean, of_gradient = rate * later / (1 - product * later), rate * (1 - momentum) / (1 - product)
    state = first_moment, second_moment
    run(kernel, parameters, gradients, *state, of_mean, of_gradient, *decays, term, step, get_num_threads())
    return float(product)


def adagrad_update(
    parameters: Array, gradients: Array, accumulator: Array, learning_rate: float, epsilon: float
) -> None:
    """Take one step of Adagrad, in place.

    ``accumulator += g**2; p -= learning_rate * g / (sqrt(accumulator) + epsilon)`` (Duchi, Hazan and Singer 2011;
    PyTorch's form).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    accumulator : ndarray (P,)
        State, not negative.
    learning_rate, epsilon : float
        Step size, and what is added to the root.

    Raises
    ------
    TypeError, ValueError
        Buffers that do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import adagrad_update
    >>> p, total = np.ones(1), np.zeros(1)
    >>> adagrad_update(p, np.array([3.0]), total, 0.5, 0.0)
    >>> p, total
    (array([0.5]), array([9.]))
    """
    rate, term = check.real(learning_rate, "learning_rate"), check.real(epsilon, "epsilon")
    kernel = _adagrad.find(parameters, gradients, accumulator)
    if kernel is None:
        gradients = _buffers(parameters, gradients, accumulator=accumulator)
        kernel = _update[parameters.dtype.char].adagrad
        _adagrad.keep(kernel, parameters, gradients, accumulator)
    run(kernel, parameters, gradients, accumulator, rate, term, get_num_threads())


def adadelta_update(
    parameters: Array,
    gradients: Array,
    mean_square: Array,
    mean_square_step: Array,
    learning_rate: float,
    rho: float,
    epsilon: float,
) -> None:
    """Take one step of Adadelta, in place.

    ``v = rho*v + (1 - rho)*g**2; d = sqrt((w + epsilon) / (v + epsilon)) * g; w = rho*w + (1 - rho)*d**2;
    p -= learning_rate * d`` (Zeiler 2012; Keras's and PyTorch's form).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    mean_square, mean_square_step : ndarray (P,)
        State, v and w, zero before the first step.
    learning_rate, rho, epsilon : float
        Step size, decay of the means, and what is added to both.

    Raises
    ------
    TypeError, ValueError
        Buffers that do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import adadelta_update
    >>> p, v, w = np.ones(1), np.zeros(1), np.zeros(1)
    >>> adadelta_update(p, np.array([2.0]), v, w, 1.0, 0.75, 1.0)
    >>> p.round(6), v
    (array([-0.414214]), array([1.]))
    """
    rate, decay = check.real(learning_rate, "learning_rate"), check.real(rho, "rho")
    term = check.real(epsilon, "epsilon")
    kernel = _adadelta.find(parameters, gradients, mean_square, mean_square_step)
    if kernel is None:
        gradients = _buffers(parameters, gradients, mean_square=mean_square, mean_square_step=mean_square_step)
        kernel = _update[parameters.dtype.char].adadelta
        _adadelta.keep(kernel, parameters, gradients, mean_square, mean_square_step)
    run(kernel, parameters, gradients, mean_square, mean_square_step, rate, decay, term, get_num_threads())


def rmsprop_update(
    parameters: Array,
    gradients: Array,
    mean_square: Array,
    mean: Array | None,
    velocity: Array | None,
    learning_rate: float,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Take one step of RMSprop, in place.

    ``v = rho*v + (1 - rho)*g**2; step = learning_rate * g / (sqrt(v) + epsilon)``. With a `mean`, the centred form,
    ``m = rho*m + (1 - rho)*g`` and the root is of ``v - m**2``. With a velocity, ``velocity = momentum*velocity -
    step`` is what is added (Tieleman and Hinton 2012; Graves 2013; the root in PyTorch's form, the velocity in
    that of `sgd_update`).

    Parameters
    ----------
    parameters, gradients : ndarray (P,)
        Of one dtype.
    mean_square : ndarray (P,)
        State, v, zero before the first step.
    mean, velocity : ndarray (P,) or None
        State, zero before the first step; `velocity` is None where `momentum` is 0.
    learning_rate, rho, momentum, epsilon : float
        Step size, decay of the means and of the velocity, and what is added to the root.

    Raises
    ------
    TypeError, ValueError
        Buffers that do not fit each other, or momentum without a velocity.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import rmsprop_update
    >>> p, v = np.ones(1), np.zeros(1)
    >>> rmsprop_update(p, np.array([2.0]), v, None, None, 0.5, 0.75, 0.0, 0.0)
    >>> p, v
    (array([0.]), array([1.]))
    """
    rate, decay = check.real(learning_rate, "learning_rate"), check.real(rho, "rho")
    inertia, term = check.real(momentum, "momentum"), check.real(epsilon, "epsilon")
    kernel = _rmsprop.find(parameters, gradients, mean_square, mean, velocity)
    if kernel is None:
        optional = {name: state for name, state in (("mean", mean), ("velocity", velocity)) if state is not None}
        gradients = _buffers(parameters, gradients, mean_square=mean_square, **optional)
        kernel = _update[parameters.dtype.char].rmsprop
        _rmsprop.keep(kernel, parameters, gradients, mean_square, mean, velocity)
    if velocity is None and inertia != 0.0:
        raise ValueError(f"velocity: expected an array where momentum is not 0; received None, momentum {inertia}")
    run(kernel, parameters, gradients, mean_square, mean, velocity, rate, decay, inertia, term, get_num_threads())
