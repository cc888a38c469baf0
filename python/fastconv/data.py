"""Data sets as pairs of arrays: MNIST and its kin, scikit-learn's digits, ``.npz`` archives.

Every loader returns ``((x_train, y_train), (x_test, y_test))``: images float32 in NCHW, labels
int64. The files themselves are read, and distrusted, in ``_idx.py`` and ``_npz.py``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._idx import read_idx
from ._npz import read_array, read_arrays

__all__ = ["load_digits", "load_images", "load_mnist", "load_npz", "read_idx"]

PathLike: TypeAlias = str | os.PathLike[str]
Images: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]
Split: TypeAlias = tuple[tuple[Images, Labels], tuple[Images, Labels]]

_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST_SUBFOLDERS = ("", "mnist", "MNIST/raw")  # the last is where torchvision puts it
_MNIST_CURL = (
    "curl --remote-name-all "
    "'https://ossci-datasets.s3.amazonaws.com/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz'"
)


def load_mnist(folder: PathLike | None = None) -> Split:
    """Load MNIST, or any data set of the same four IDX files.

    Fashion-MNIST and KMNIST come as files of the same names: give their folder.

    Parameters
    ----------
    folder : str or path-like, optional
        Where the four files lie, each plain or gzip: the folder itself, ``mnist/`` or
        ``MNIST/raw/`` within it. Without it, the folder that the environment variable
        ``FASTCONV_DATA`` names.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        Images float32 in [0, 1] of shape (N, 1, 28, 28), labels int64 of shape (N,): 60,000 and
        10,000 of them.

    Raises
    ------
    FileNotFoundError
        If the files are not found; the message says where it looked and how to get them.
    ValueError
        If a file is damaged, or images and labels differ in number.

    Examples
    --------
    >>> load_mnist("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: expected MNIST's train-images-idx3-ubyte (plain or .gz) in ...
    """
    images, labels, test_images, test_labels = (read_idx(path) for path in _find_mnist(folder))
    return _idx_pair(images, labels, "train"), _idx_pair(test_images, test_labels, "t10k")


def _find_mnist(folder: PathLike | None) -> list[Path]:
    root = os.environ.get("FASTCONV_DATA") if folder is None else os.fspath(folder)
    places = [Path(root, below) for below in _MNIST_SUBFOLDERS] if root else []
    missing = _MNIST_FILES[0]
    for place in places:
        found = [_plain_or_gzip(place / name) for name in _MNIST_FILES]
        paths = [path for path in found if path is not None]
        if len(paths) == len(_MNIST_FILES):
            return paths
        if paths:  # the right place, but incomplete: name the file that is missing there
            missing, places = _MNIST_FILES[found.index(None)], [place]
            break
    looked = ", ".join(map(str, places)) or "no folder, because FASTCONV_DATA is not set"
    raise FileNotFoundError(
        f"expected MNIST's {missing} (plain or .gz) in a folder given by folder=, --data-dir or "
        f"FASTCONV_DATA; received nothing of that name, having looked in {looked}. "
        f"To download the four files: {_MNIST_CURL}"
    )


def _plain_or_gzip(path: Path) -> Path | None:
    candidates = (path, path.with_name(path.name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _idx_pair(images: NDArray[Any], labels: NDArray[Any], name: str) -> tuple[Images, Labels]:
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"expected {name} images as uint8 of shape (N, height, width); received "
            f"{images.dtype} of shape {images.shape}"
        )
    return _as_images(images), _as_labels(labels, len(images), f"{name} labels")


def load_digits(*, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Load scikit-learn's handwritten digits: 1,797 images of 8 x 8, no download.

    Parameters
    ----------
    test_fraction : float
        The share held out as test images, in (0, 1), rounded up to whole images.
    seed : int
        Seed of the shuffle that chooses them.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        Images float32 in [0, 1] of shape (N, 1, 8, 8), labels int64 of shape (N,).

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If ``test_fraction`` leaves no image on one side.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load_digits()
    >>> x_train.shape, x_test.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn, which is an extra: pip install "fastconv[digits]"'
        ) from error
    digits = sklearn_digits()
    x = _with_channels(np.divide(digits.images, 16, dtype=np.float32))
    return _split(x, digits.target.astype(np.int64), test_fraction, seed)


def load_npz(path: PathLike, *, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Load images and labels from a ``.npz`` archive, without pickle.

    Parameters
    ----------
    path : str or path-like
        An archive with the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``, or with
        ``x`` and ``y``, from which test images are then held out. Images are (N, C, H, W), or
        (N, H, W), which gains a channel axis; uint8 is divided by 255, and any other number is
        converted to float32 as it is. Labels are integers of shape (N,) or (N, 1).
    test_fraction : float
        The share of ``x`` and ``y`` held out, in (0, 1), rounded up to whole images.
    seed : int
        Seed of the shuffle that chooses them.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        Images float32, labels int64 of shape (N,).

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    ValueError
        If it is damaged, or its arrays are not as described.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "data.npz")
    ...     np.savez(path, x=np.zeros((10, 3, 8, 8), np.uint8), y=np.arange(10))
    ...     (x_train, y_train), (x_test, y_test) = load_npz(path)
    >>> x_train.shape, x_test.dtype
    ((8, 3, 8, 8), dtype('float32'))
    """
    arrays = read_arrays(path)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        x_train, x_test = _as_images(arrays["x_train"]), _as_images(arrays["x_test"])
        return (
            (x_train, _as_labels(arrays["y_train"], len(x_train), "y_train")),
            (x_test, _as_labels(arrays["y_test"], len(x_test), "y_test")),
        )
    if {"x", "y"} <= arrays.keys():
        x = _as_images(arrays["x"])
        return _split(x, _as_labels(arrays["y"], len(x), "y"), test_fraction, seed)
    raise ValueError(
        f"expected the arrays x_train, y_train, x_test and y_test, or x and y; received "
        f"{', '.join(sorted(arrays)) or 'none'} in {os.fspath(path)}"
    )


def load_images(path: PathLike) -> Images:
    """Load images alone, to be classified.

    Parameters
    ----------
    path : str or path-like
        A ``.npy`` array, a ``.npz`` archive with ``x_test`` or ``x``, or an IDX file (any other
        name). Shapes and numbers as in `load_npz`.

    Returns
    -------
    ndarray of float32
        Of shape (N, C, H, W), or (N, features).

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    ValueError
        If it is damaged, or holds no images.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "images.npy")
    ...     np.save(path, np.full((2, 8, 8), 255, np.uint8))
    ...     images = load_images(path)
    >>> images.shape, float(images.max())
    ((2, 1, 8, 8), 1.0)
    """
    suffix = Path(path).suffix
    if suffix == ".npy":
        return _as_images(read_array(path))
    if suffix != ".npz":
        return _as_images(read_idx(path))
    arrays = read_arrays(path)
    for name in ("x_test", "x"):
        if name in arrays:
            return _as_images(arrays[name])
    raise ValueError(
        f"expected the array x_test or x; received {', '.join(sorted(arrays)) or 'none'} in {os.fspath(path)}"
    )


def _as_images(images: NDArray[Any]) -> Images:
    if images.dtype.kind not in "buif" or images.ndim < 2:
        raise ValueError(
            f"expected images as real numbers of shape (N, C, H, W), (N, H, W) or (N, features); "
            f"received {images.dtype} of shape {images.shape}"
        )
    scale = 255 if images.dtype == np.uint8 else 1
    return _with_channels(np.divide(images, scale, dtype=np.float32))


def _with_channels(images: Images) -> Images:
    return images[:, None] if images.ndim == 3 else images


def _as_labels(labels: NDArray[Any], count: int, name: str) -> Labels:
    if labels.dtype.kind not in "biu" or labels.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"expected {name} as integers of shape ({count},), one an image; received "
            f"{labels.dtype} of shape {labels.shape}"
        )
    return labels.reshape(count).astype(np.int64)


def _split(x: Images, y: Labels, test_fraction: float, seed: int) -> Split:
    test_count = math.ceil(test_fraction * len(x))
    if not 0 < test_count < len(x):
        raise ValueError(
            f"expected test_fraction to leave images on both sides; received {test_fraction}, "
            f"which holds out {test_count} of {len(x)}"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = order[:test_count], order[test_count:]
    return (x[train], y[train]), (x[test], y[test])
