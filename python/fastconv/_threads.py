"""How many threads a kernel may use: one default for the process, and a context manager for one thread.

Results never depend on the number. The default respects the processor affinity and ``OMP_NUM_THREADS`` (both
through OpenMP) and the processor quota of a Linux control group.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastconv._dispatch import max_threads

#: More threads than any machine this library runs on has processors.
MAX_THREADS = 1024


def _control_group_quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Processors that a Linux control group grants, rounded up; None without a quota."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups here, or another version of them
        return None


def _default_threads() -> int:
    quota = _control_group_quota()
    threads = max_threads()
    return min(threads, quota or threads, MAX_THREADS)


class _Local(threading.local):
    threads: int = 0  # 0: the process's default


_default = _default_threads()
_local = _Local()


def _after_fork_in_child() -> None:
    # The parent's team of threads does not exist in the child, and waiting for it would hang.
    global _default
    _default = 1
    _local.threads = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _check(n: object) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"num_threads: expected an int; received {n!r} of type {type(n).__name__}")
    count = operator.index(n)
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"num_threads: expected 1 to {MAX_THREADS}; received {count}")
    return count


def get_num_threads() -> int:
    """Return the number of threads that a call from this thread may use.

    Returns
    -------
    int
        The innermost ``num_threads`` of this thread, else the process's default.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(1):
    ...     fc.get_num_threads()
    1
    """
    return _local.threads or _default


def set_num_threads(n: int) -> None:
    """Set the number of threads that calls may use, for the whole process.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Raises
    ------
    TypeError, ValueError
        Where `n` is no integer or out of range.
    """
    global _default
    _default = _check(n)


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads inside a ``with`` block, for the calling thread alone.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(2):
    ...     fc.get_num_threads()
    2
    """
    before = _local.threads
    _local.threads = _check(n)
    try:
        yield
    finally:
        _local.threads = before
