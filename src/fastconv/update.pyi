from typing import Any

from numpy.typing import NDArray

def sgd(
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    velocity: NDArray[Any] | None,
    rate: float,
    momentum: float,
    nesterov: bool,
    threads: int,
) -> None: ...
def adam(
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    first_moment: NDArray[Any],
    second_moment: NDArray[Any],
    rate: float,
    ahead: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
    threads: int,
) -> None: ...
def adagrad(
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    accumulator: NDArray[Any],
    rate: float,
    epsilon: float,
    threads: int,
) -> None: ...
def adadelta(
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    mean_square: NDArray[Any],
    mean_square_step: NDArray[Any],
    rate: float,
    rho: float,
    epsilon: float,
    threads: int,
) -> None: ...
def rmsprop(
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    mean_square: NDArray[Any],
    mean: NDArray[Any] | None,
    velocity: NDArray[Any] | None,
    rate: float,
    rho: float,
    momentum: float,
    epsilon: float,
    threads: int,
) -> None: ...
