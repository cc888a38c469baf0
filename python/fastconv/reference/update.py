"""The optimizers' steps on flat arrays, in place."""

import numpy as np

from ._windows import Array


def sgd_update(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """In place ``v = momentum*v - lr*g`` and ``p += v`` (Nesterov: ``p += momentum*v - lr*g``).

    Examples
    --------
    >>> p = np.array([1.0])
    >>> sgd_update(p, np.array([2.0]), None, 0.25)
    >>> p
    array([0.5])
    """
    step = -learning_rate * gradients
    if velocity is not None:
        velocity *= momentum
        velocity += step
        step = momentum * velocity + step if nesterov else velocity
    parameters += step


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
    """Algorithm 1 of Kingma and Ba (2015), in place; `step` counts from 1.

    Examples
    --------
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_update(p, np.array([2.0]), m, v, 0.1, 0.9, 0.999, 0.0, 1)
    >>> p.round(6)
    array([0.9])
    """
    first_moment *= beta_1
    first_moment += (1 - beta_1) * gradients
    second_moment *= beta_2
    second_moment += (1 - beta_2) * np.square(gradients)
    root = np.sqrt(second_moment / (1 - beta_2**step)) + epsilon
    parameters -= learning_rate / (1 - beta_1**step) * first_moment / root


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
    """Dozat's Nadam (2016) in PyTorch's form, in place; returns the product of the momenta so far.

    Examples
    --------
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> nadam_update(p, np.array([2.0]), m, v, 0.1, 0.9, 0.999, 0.0, 1.0, 1.0, 1)
    0.468
    """
    now, later = (beta_1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    product = momentum_product * now
    first_moment *= beta_1
    first_moment += (1 - beta_1) * gradients
    second_moment *= beta_2
    second_moment += (1 - beta_2) * np.square(gradients)
    root = np.sqrt(second_moment / (1 - beta_2**step)) + epsilon
    mean = later / (1 - product * later) * first_moment + (1 - now) / (1 - product) * gradients
    parameters -= learning_rate * mean / root
    return float(product)


def adagrad_update(
    parameters: Array, gradients: Array, accumulator: Array, learning_rate: float, epsilon: float
) -> None:
    """In place ``a += g^2`` and ``p -= lr g / (sqrt(a) + epsilon)``.

    Examples
    --------
    >>> p, total = np.array([1.0]), np.zeros(1)
    >>> adagrad_update(p, np.array([2.0]), total, 0.25, 0.0)
    >>> p
    array([0.75])
    """
    accumulator += np.square(gradients)
    parameters -= learning_rate * gradients / (np.sqrt(accumulator) + epsilon)


def adadelta_update(
    parameters: Array,
    gradients: Array,
    mean_square: Array,
    mean_square_step: Array,
    learning_rate: float,
    rho: float,
    epsilon: float,
) -> None:
    """Zeiler's Adadelta (2012), in place.

    Examples
    --------
    >>> p, v, w = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adadelta_update(p, np.array([2.0]), v, w, 1.0, 0.75, 1.0)
    >>> p.round(6)
    array([-0.414214])
    """
    mean_square *= rho
    mean_square += (1 - rho) * np.square(gradients)
    step = np.sqrt((mean_square_step + epsilon) / (mean_square + epsilon)) * gradients
    mean_square_step *= rho
    mean_square_step += (1 - rho) * np.square(step)
    parameters -= learning_rate * step


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
    """RMSprop (Tieleman and Hinton, 2012), centred where there is a `mean`, in place.

    Examples
    --------
    >>> p, v = np.array([1.0]), np.zeros(1)
    >>> rmsprop_update(p, np.array([2.0]), v, None, None, 0.5, 0.75, 0.0, 0.0)
    >>> p
    array([0.])
    """
    mean_square *= rho
    mean_square += (1 - rho) * np.square(gradients)
    spread = mean_square
    if mean is not None:
        mean *= rho
        mean += (1 - rho) * gradients
        spread = np.maximum(mean_square - np.square(mean), 0)
    step = learning_rate * gradients / (np.sqrt(spread) + epsilon)
    if velocity is not None:
        velocity *= momentum
        velocity -= step
        step = -velocity
    parameters -= step
