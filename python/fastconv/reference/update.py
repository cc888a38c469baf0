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
