"""Which way a convolution is computed: the direct sum, or Winograd's with fewer products.

The choice depends on the shapes alone, so that it never changes results from one run to the next. One setting
for the whole process overrides it.
"""

from __future__ import annotations

from functools import lru_cache

from fastconv import _call
from fastconv._shapes import Geometry

ALGORITHMS = ("auto", "direct", "winograd")

_algorithm = "auto"

# Winograd's F(2x2, 3x3) has 16 products where the direct sum has 36, but it transforms every image, output and
# filter. It pays where each transform is used often:
CHANNELS = 16  # input and output channels from which on it does
NARROW = 32  # below so many they must also fill vectors of 8; not for the gradient of the weight
TILES = 64  # 2x2 outputs in all images, for the filters' transform
COVERED = 0.7  # share of the tiles' outputs that lie in the image: 49 of 64 in a 7x7 image do
ROW_ELEMENTS = 16384  # channels x tiles of one row, whose sixteen products a core's cache must hold


def get_algorithm() -> str:
    """Return the algorithm of convolutions, as `set_algorithm` set it.

    Returns
    -------
    {"auto", "direct", "winograd"}

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.get_algorithm()
    'auto'
    """
    return _algorithm


def set_algorithm(algorithm: str) -> None:
    """Choose the algorithm of convolutions, for the whole process.

    Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
    2015) serves 3x3 kernels of stride 1 and any dilation, without groups; every other convolution is computed the
    direct way whatever is set. Its rounding errors are those of sums and differences of 4x4 pixels: where tiny
    pixels lie beside huge ones, "direct" keeps more of their digits.

    Parameters
    ----------
    algorithm : {"auto", "direct", "winograd"}
        "auto" takes Winograd's where it is faster.

    Raises
    ------
    TypeError, ValueError
        Where `algorithm` is none of them.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.set_algorithm("direct")
    >>> fc.set_algorithm("auto")
    """
    global _algorithm
    choices = ", ".join(f'"{name}"' for name in ALGORITHMS)
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm: expected one of {choices}; received {algorithm!r}")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {choices}; received {algorithm!r}")
    _algorithm = algorithm
    _call.forget()
    takes_winograd.cache_clear()


def _tiles(size: int, dilation: int) -> int:
    """Tiles of two outputs that cover so many, in each residue of the dilation."""
    longest = (size + dilation - 1) // dilation
    return dilation * ((longest + 1) // 2)


@lru_cache(maxsize=1024)
def takes_winograd(
    images: int, channels: int, outputs: int, geometry: Geometry, groups: int, to_weight: bool = False
) -> bool:
    """Decide for one convolution: forward and the gradient of the input alike, or the gradient `to_weight`."""
    possible = (
        _algorithm != "direct"
        and geometry.kernel == (3, 3)
        and geometry.stride == (1, 1)
        and groups == 1
        and max(geometry.padding[0]) <= 2 * geometry.dilation[0]
        and max(geometry.padding[1]) <= 2 * geometry.dilation[1]
    )
    rows, columns = map(_tiles, (geometry.out_height, geometry.out_width), geometry.dilation)
    if not possible or columns * max(channels, outputs) > ROW_ELEMENTS:
        return False
    return _algorithm == "winograd" or (
        min(channels, outputs) >= CHANNELS
        and (to_weight or all(count >= NARROW or count % 8 == 0 for count in (channels, outputs)))
        and images * rows * columns >= TILES
        and geometry.out_height * geometry.out_width >= COVERED * 4 * rows * columns
    )
