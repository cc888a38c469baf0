"""Optimizers: one pass over a model's flat parameters a step.

A model keeps all parameters in one array and all gradients in another, so an update is a single
call of a fused kernel and the state of an optimizer is a few more flat arrays. Names and defaults
are Keras's; Adam is algorithm 1 of its paper, in which epsilon is added to the corrected root
(PyTorch's form; Keras adds it before the correction).

Before each update gradients are clipped and weights decayed, where that was asked for: by value,
``min(max(g, -clipvalue), clipvalue)``; by norm, ``g * clipnorm / max(clipnorm, |g|)`` for each
parameter's gradient, or with `global_clipnorm` for all of them together (Pascanu, Mikolov and
Bengio, "On the difficulty of training recurrent neural networks", 2013); and
``p -= learning_rate * weight_decay * p``, which leaves the gradient alone (Loshchilov and Hutter,
"Decoupled weight decay regularization", 2019). That is Keras's `weight_decay`; the one of
PyTorch's SGD and Adam adds ``weight_decay * p`` to the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import ops
from ._call import lasting
from ._config import Configurable, by_name
from ._validation import Array, above_zero, real
from .schedules import Schedule

COMMON = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")
"""What every optimizer takes besides its own arguments."""


class Optimizer(Configurable):
    """Base class; a subclass writes `update`.

    Parameters
    ----------
    learning_rate : float or Schedule
        May be set at any time; the next step uses it.
    weight_decay : float, optional
        Share of `learning_rate` by which parameters shrink before each update.
    clipnorm, clipvalue, global_clipnorm : float, optional
        Bound of the norm of each parameter's gradient, of the size of every number in it, or of the norm of all
        gradients together. One of the three.

    Attributes
    ----------
    iterations : int
        Steps made so far.
    state : dict of str to ndarray
        Flat arrays as long as the parameters, zero before the first step.

    Examples
    --------
    >>> p = np.array([1.0, 2.0])
    >>> SGD(learning_rate=1.0, global_clipnorm=5.0).apply(p, np.array([30.0, 40.0]))
    >>> p
    array([-2., -2.])
    """

    def __init__(
        self,
        learning_rate: float | Schedule,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else _in_range("weight_decay", weight_decay, 0, math.inf)
        bounds = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {name: above_zero(bound, name) for name, bound in bounds.items() if bound is not None}
        if len(given) > 1:
            raise ValueError(f"expected one way to clip gradients; received {' and '.join(given)}")
        self.clipnorm = given.get("clipnorm")
        self.clipvalue = given.get("clipvalue")
        self.global_clipnorm = given.get("global_clipnorm")
        self.iterations = 0
        self.state: dict[str, Array] = {}

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the class's own, and those of all optimizers that were given."""
        given = {name: value for name in COMMON if (value := getattr(self, name)) is not None}
        return {**super()._arguments(), **given, "learning_rate": self._learning_rate}

    @property
    def learning_rate(self) -> float:
        """Step size of the next step."""
        rate = self._learning_rate
        return rate(self.iterations) if isinstance(rate, Schedule) else rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._learning_rate = value if isinstance(value, Schedule) else _in_range("learning_rate", value, 0, math.inf)

    def apply(self, parameters: Array, gradients: Array, sizes: Sequence[int] | None = None) -> None:
        """Clip the gradients, shrink the parameters, and make one step, all in place.

        Parameters
        ----------
        parameters, gradients : ndarray (P,), of one dtype
        sizes : sequence of int, optional
            How many numbers each parameter has, in order; one parameter by default.
        """
        if self.clipvalue is not None:
            np.clip(gradients, -self.clipvalue, self.clipvalue, out=gradients)
        elif self.global_clipnorm is not None:
            _clip_norm(gradients, self.global_clipnorm)
        elif self.clipnorm is not None:
            start = 0
            for size in sizes or (gradients.size,):
                _clip_norm(gradients[start : start + size], self.clipnorm)
                start += size
        if self.weight_decay:
            parameters *= 1 - self.learning_rate * self.weight_decay
        self.update(parameters, gradients)

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
    learning_rate : float or Schedule, default 0.01
    momentum : float from 0 up to 1, default 0
    nesterov : bool, default False
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0, 2.0])
    >>> SGD(learning_rate=0.5).update(p, np.array([1.0, 0.0]))
    >>> p
    array([0.5, 2. ])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = _in_range("momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        velocity = self.slot("velocity", parameters) if self.momentum else None
        ops.sgd_update(parameters, gradients, velocity, self.learning_rate, self.momentum, self.nesterov)
        self.iterations += 1


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    ``p -= learning_rate * m_hat / (sqrt(v_hat) + epsilon)`` (Kingma and Ba, 2015, algorithm 1).

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
    beta_1, beta_2 : float from 0 up to 1, default 0.9 and 0.999
        Decay of the two means.
    epsilon : float, default 1e-7
        PyTorch's default is 1e-8.
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> Adam(learning_rate=0.25, epsilon=1e-300).update(p, np.array([4.0]))
    >>> p
    array([0.75])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
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
            self.learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.iterations + 1,
        )
        self.iterations += 1


class AdamW(Adam):
    """Adam with weights that decay by themselves: `Adam` with a default for `weight_decay`.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As in `Adam`.
    weight_decay : float, default 0.004
        PyTorch's default is 0.01.
    **options
        ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> AdamW(learning_rate=0.25, weight_decay=0.4).apply(p, np.array([0.0]))
    >>> p
    array([0.9])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, **options)


class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov momentum into Adam", 2016).

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        PyTorch's default is 0.002.
    beta_1, beta_2, epsilon
        As in `Adam`.
    momentum_decay : float, default 1
        The momentum of step t is ``beta_1 * (1 - 0.96**(t * momentum_decay) / 2)``. 1 is Keras's, PyTorch's
        default is 0.004.
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> Nadam(learning_rate=0.25).update(p, np.array([4.0]))
    >>> p.round(6)
    array([0.734303])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        momentum_decay: float = 1.0,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = _in_range("beta_1", beta_1, 0, 1)
        self.beta_2 = _in_range("beta_2", beta_2, 0, 1)
        self.epsilon = _in_range("epsilon", epsilon, 0, math.inf)
        self.momentum_decay = _in_range("momentum_decay", momentum_decay, 0, math.inf)
        self._product = (0, 1.0)  # of the momenta, after so many steps

    def _product_so_far(self) -> float:
        steps, product = self._product
        if steps != self.iterations:  # restored from a file
            product = 1.0
            for t in range(1, self.iterations + 1):
                product *= self.beta_1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))
        return product

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        product = ops.nadam_update(
            parameters,
            gradients,
            self.slot("first_moment", parameters),
            self.slot("second_moment", parameters),
            self.learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.momentum_decay,
            self._product_so_far(),
            self.iterations + 1,
        )
        self.iterations += 1
        self._product = (self.iterations, product)


class Adagrad(Optimizer):
    """Steps divided by the root of all squared gradients so far (Duchi, Hazan and Singer, 2011).

    ``a += g^2; p -= learning_rate * g / (sqrt(a) + epsilon)``: PyTorch's form, in which epsilon is added to the root;
    Keras adds it before.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        PyTorch's default is 0.01.
    initial_accumulator_value : float, default 0.1
        What a is before the first step; 0 in PyTorch.
    epsilon : float, default 1e-7
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> Adagrad(0.5, initial_accumulator_value=0.0, epsilon=0.0).update(p, np.array([4.0]))
    >>> p
    array([0.5])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = _in_range("initial_accumulator_value", initial_accumulator_value, 0, math.inf)
        self.epsilon = _in_range("epsilon", epsilon, 0, math.inf)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        if "accumulator" not in self.state:
            self.slot("accumulator", parameters).fill(self.initial_accumulator_value)
        ops.adagrad_update(parameters, gradients, self.state["accumulator"], self.learning_rate, self.epsilon)
        self.iterations += 1


class Adadelta(Optimizer):
    """Steps as large as recent steps were, where gradients are as large as recent ones (Zeiler, 2012).

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        1 in the paper and in PyTorch.
    rho : float from 0 up to 1, default 0.95
        Decay of the means of squares; 0.9 in PyTorch.
    epsilon : float, default 1e-7
        Added to both means; 1e-6 in PyTorch.
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> Adadelta(1.0, rho=0.75, epsilon=1.0).update(p, np.array([2.0]))
    >>> p.round(6)
    array([-0.414214])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = _in_range("rho", rho, 0, 1)
        self.epsilon = _in_range("epsilon", epsilon, 0, math.inf)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        ops.adadelta_update(
            parameters,
            gradients,
            self.slot("mean_square", parameters),
            self.slot("mean_square_step", parameters),
            self.learning_rate,
            self.rho,
            self.epsilon,
        )
        self.iterations += 1


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients (Tieleman and Hinton, 2012).

    ``v = rho * v + (1 - rho) * g^2; p -= learning_rate * g / (sqrt(v) + epsilon)``: PyTorch's form, in which epsilon
    is added to the root; Keras adds it before.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        PyTorch's default is 0.01.
    rho : float from 0 up to 1, default 0.9
        Decay of the mean; PyTorch calls it alpha, 0.99.
    momentum : float from 0 up to 1, default 0
    epsilon : float, default 1e-7
        PyTorch's default is 1e-8.
    centered : bool, default False
        Subtract the square of the mean gradient under the root: an estimate of the variance (Graves, 2013).
    **options
        ``weight_decay``, ``clipnorm``, ``clipvalue``, ``global_clipnorm``, as in `Optimizer`.

    Examples
    --------
    >>> p = np.array([1.0])
    >>> RMSprop(0.5, rho=0.75, epsilon=0.0).update(p, np.array([2.0]))
    >>> p
    array([0.])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: float | None,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = _in_range("rho", rho, 0, 1)
        self.momentum = _in_range("momentum", momentum, 0, 1)
        self.epsilon = _in_range("epsilon", epsilon, 0, math.inf)
        self.centered = bool(centered)

    def update(self, parameters: Array, gradients: Array) -> None:
        """Change `parameters` in place by one step."""
        ops.rmsprop_update(
            parameters,
            gradients,
            self.slot("mean_square", parameters),
            self.slot("mean", parameters) if self.centered else None,
            self.slot("velocity", parameters) if self.momentum else None,
            self.learning_rate,
            self.rho,
            self.momentum,
            self.epsilon,
        )
        self.iterations += 1


def _clip_norm(gradients: Array, bound: float) -> None:
    """Scale down, in place, to a Euclidean norm of `bound` at most. What is not finite stays so."""
    norm = math.sqrt(np.einsum("i,i->", gradients, gradients, dtype=np.float64))
    if norm > bound:
        gradients *= bound / norm


def _in_range(name: str, value: float, low: float, high: float) -> float:
    """Return `value` as a float if ``low <= value < high``."""
    number = real(value, name)
    if not low <= number < high:
        above = "" if math.isinf(high) else f" and below {high}"
        raise ValueError(f"expected {name} to be finite and at least {low}{above}; received {value!r}")
    return number


NAMES: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
}

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Nadam", "Optimizer", "RMSprop", "get"]


def get(optimizer: str | Optimizer | type[Optimizer]) -> Optimizer:
    """Return an optimizer from its name, its class or itself.

    Examples
    --------
    >>> get("sgd")
    SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
    """
    return by_name("optimizer", optimizer, Optimizer, NAMES)
