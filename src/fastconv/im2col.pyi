from typing import Any

from numpy.typing import NDArray

def im2col(
    x: NDArray[Any],
    columns: NDArray[Any],
    out_height: int,
    out_width: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
    threads: int,
) -> None: ...
def col2im(
    columns: NDArray[Any],
    x: NDArray[Any],
    out_height: int,
    out_width: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
    threads: int,
) -> None: ...
