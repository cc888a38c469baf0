from typing import Any

from numpy.typing import NDArray

def forward(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    y: NDArray[Any],
    activation: int,
    slope: float,
    threads: int,
) -> None: ...
def backward_input(grad_y: NDArray[Any], weight: NDArray[Any], grad_x: NDArray[Any], threads: int) -> None: ...
def backward_weight(grad_y: NDArray[Any], x: NDArray[Any], grad_weight: NDArray[Any], threads: int) -> None: ...
def backward_bias(grad_y: NDArray[Any], grad_bias: NDArray[Any]) -> None: ...
