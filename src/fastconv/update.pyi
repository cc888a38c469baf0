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
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
    threads: int,
) -> None: ...
