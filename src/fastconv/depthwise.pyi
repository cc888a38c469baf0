from typing import Any

from numpy.typing import NDArray

def forward(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    y: NDArray[Any],
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    activation: int,
    slope: float,
    threads: int,
) -> None: ...
def backward_input(
    grad_y: NDArray[Any],
    weight: NDArray[Any],
    grad_x: NDArray[Any],
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    threads: int,
) -> None: ...
def backward_weight(
    grad_y: NDArray[Any],
    x: NDArray[Any],
    grad_weight: NDArray[Any],
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    threads: int,
) -> None: ...
