from typing import Any

from numpy.typing import NDArray

def forward(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    y: NDArray[Any],
    top: int,
    left: int,
    row_step: int,
    column_step: int,
    activation: int,
    slope: float,
    threads: int,
) -> list[int]: ...
def backward_input(
    grad_y: NDArray[Any],
    weight: NDArray[Any],
    grad_x: NDArray[Any],
    top: int,
    left: int,
    row_step: int,
    column_step: int,
    threads: int,
) -> list[int]: ...
def backward_weight(
    grad_y: NDArray[Any],
    x: NDArray[Any],
    grad_weight: NDArray[Any],
    top: int,
    left: int,
    row_step: int,
    column_step: int,
    threads: int,
) -> bool: ...
