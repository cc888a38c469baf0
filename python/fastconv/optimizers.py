"""Optimizers: one pass over a model's flat parameters a step.

A model keeps all parameters in one array and all gradients in another, so an update is a single
call of a fused kernel and the state of an optimizer is a few more flat arrays. Names and defaults
are Keras's; Adam is algorithm 1 of its paper, in which epsilon is added to the corrected root
(PyTorch's form; Keras adds it before the correction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from . import ops
from ._call import lasting
from ._config import Configurable, by_name
from ._validation import Array, real


class Optimizer(Configurable):
    """Base class; a subclass writes `update`.

    Parameters
    ----------
    learning_rate : float
        May be set at any time; the next step uses it.

    Attributes
    ----------
    iterations : int
        Steps made so far.
    state : dict of str to ndarray
        Flat arrays as long as the parameters, zero before the first step.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.iterations = 0
        self.state: dict[str, Array] = {}

    @property
    def learning_rate(self) -> float:
        """Step size."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = _in_range("learning_rate", value, 0, math.inf)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step.

        Parameters
        ----------
        parameters, gradients : ndarray (P,), of one dtype
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(...)")

    def slot(self, name: str, parameters: Array) -> Array:
        """Return the state array `name`, made of zeros on first use."""
        array = self.state.get(name)
        if array is None:
            array = self.state[name] = lasting(parameters.size, parameters.dtype)
        return array

    def restore(self, iterations: int, state: Mapping[str, Array]) -> None:
        """Continue from a saved count and saved state."""
        self.iterations = iterations
        self.state = {name: array.copy() for name, array in state.items()}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's momentum.

    ``v = momentum * v - learning_rate * g``, then ``p += v``; with `nesterov`,
    ``p += momentum * v - learning_rate * g`` (Sutskever et al., 2013).

    Parameters
    ----------
    learning_rate : float, default 0.01
    momentum : float from 0 up to 1, default 0
    nesterov : bool, default False

    Examples
    --------
    >>> p = np.array([1.0, 2.0])
    >>> SGD(learning_rate=0.5).update(p, np.array([1.0, 0.0]))
    >>> p
    array([0.5, 2. ])
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(learning_rate)
        self.momentum = _in_range("momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        velocity = self.slot("velocity", parameters) if self.momentum else None
        ops.sgd_update(parameters, gradients, velocity, self._learning_rate, self.momentum, self.nesterov)
        self.iterations += 1


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    ``p -= learning_rate * m_hat / (sqrt(v_hat) + epsilon)`` (Kingma and Ba, 2015, algorithm 1).

    Parameters
    ----------
    learning_rate : float, default 0.001
    beta_1, beta_2 : float from 0 up to 1, default 0.9 and 0.999
        Decay of the two means.
    epsilon : float, default 1e-7
        PyTorch's default is 1e-8.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> Adam(learning_rate=0.25, epsilon=1e-300).update(p, np.array([4.0]))
    >>> p
    array([0.75])
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__(learning_rate)
        self.beta_1 = _in_range("beta_1", beta_1, 0, 1)
        self.beta_2 = _in_range("beta_2", beta_2, 0, 1)
        self.epsilon = _in_range("epsilon", epsilon, 0, math.inf)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        ops.adam_update(
            parameters,
            gradients,
            self.slot("first_moment", parameters),
            self.slot("second_moment", parameters),
            self._learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.iterations + 1,
        )
        self.iterations += 1


def _in_range(name: str, value: float, low: float, high: float) -> float:
    """Return `value` as a float if ``low <= value < high``."""
    number = real(value, name)
    if not low <= number < high:
        above = "" if math.isinf(high) else f" and below {high}"
        raise ValueError(f"expected {name} to be finite and at least {low}{above}; received {value!r}")
    return number


NAMES: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}

__all__ = ["SGD", "Adam", "Optimizer", "get"]


def get(optimizer: str | Optimizer | type[Optimizer]) -> Optimizer:
    """Return an optimizer from its name, its class or itself.

    Examples
    --------
    >>> get("sgd")
    SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
    """
    return by_name("optimizer", optimizer, Optimizer, NAMES)
