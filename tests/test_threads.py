"""The number of threads: it changes no bit, belongs to its thread, and is checked."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits, run_python
from operators import MEASURED, ROWS, Row

import fastconv
from fastconv import ops, reference
from fastconv._threads import _control_group_quota


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_same_bits_for_any_number_of_threads(row: Row, dtype: Any) -> None:
    arrays = row.draw(dtype)
    output = row.forward(reference, arrays)[0]
    grad = row.draw_like(output)
    results = []
    for threads in (1, 2, 3, 8):
        with fastconv.num_threads(threads):
            results.append(row.forward(ops, arrays))
            if row.recipe.backward:
                results[-1] += row.backward(ops, grad, arrays, output)
    for other in results[1:]:
        assert_same_bits(other, results[0])


def test_context_restores_what_was() -> None:
    before = fastconv.get_num_threads()
    with fastconv.num_threads(3):
        assert fastconv.get_num_threads() == 3
        with fastconv.num_threads(1):
            assert fastconv.get_num_threads() == 1
        assert fastconv.get_num_threads() == 3
        with pytest.raises(KeyError), fastconv.num_threads(2):
            raise KeyError
        assert fastconv.get_num_threads() == 3
    assert fastconv.get_num_threads() == before


def test_context_is_local_to_its_thread() -> None:
    default = fastconv.get_num_threads()
    with fastconv.num_threads(default + 3), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastconv.get_num_threads).result() == default
        assert fastconv.get_num_threads() == default + 3


def test_set_num_threads() -> None:
    fastconv.set_num_threads(5)
    assert fastconv.get_num_threads() == 5
    with fastconv.num_threads(2):
        assert fastconv.get_num_threads() == 2
    assert fastconv.get_num_threads() == 5


def enter_num_threads(n: Any) -> None:
    with fastconv.num_threads(n):
        pass


@pytest.mark.parametrize("function", [fastconv.set_num_threads, enter_num_threads])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (10**9, ValueError),
        (2**70, ValueError),
        (1.5, TypeError),
        (2.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
        ([2], TypeError),
    ],
)
def test_bad_number_of_threads(function: Any, value: Any, error: type[Exception]) -> None:
    before = fastconv.get_num_threads()
    with pytest.raises(error, match=r"expected .*; received"):
        function(value)
    assert fastconv.get_num_threads() == before


def test_numpy_integer_is_a_number_of_threads() -> None:
    fastconv.set_num_threads(np.int64(2))
    assert fastconv.get_num_threads() == 2


@pytest.mark.parametrize(
    ("text", "processors"),
    [("max 100000\n", None), ("150000 100000\n", 2), ("50000 100000\n", 1), ("400000 100000\n", 4), ("", None)],
)
def test_default_follows_control_group(tmp_path: Path, text: str, processors: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert _control_group_quota(file) == processors
    assert _control_group_quota(tmp_path / "missing") is None


def test_many_python_threads_at_once() -> None:
    """Sixty-four convolutions side by side give the bits of one alone."""
    rows = [row for row in MEASURED if np.prod(row.shapes[0]) < 30_000]
    assert len(rows) > 8
    inputs = [row.draw(np.float32) for row in rows]
    expected = [row.forward(ops, arrays) for row, arrays in zip(rows, inputs, strict=True)]
    start = threading.Barrier(64)

    def work(i: int) -> None:
        start.wait()
        for j in range(i, i + 3):
            assert_same_bits(rows[j % len(rows)].forward(ops, inputs[j % len(rows)]), expected[j % len(rows)])

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))


def test_default_follows_omp_num_threads() -> None:
    assert run_python("import fastconv; print(fastconv.get_num_threads())", OMP_NUM_THREADS="1") == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity here")
def test_default_follows_affinity() -> None:
    program = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fastconv
print(fastconv.get_num_threads())
"""
    assert run_python(program) == "1"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts native threads in /proc")
def test_native_threads_are_bounded() -> None:
    """However many Python threads have called, no more than their teams ever stand."""
    program = """
import os, threading
os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
import numpy as np, fastconv
fastconv.set_num_threads(2)
x = np.ones((8, 16, 32, 32), np.float32)
w = np.ones((16, 16, 3, 3), np.float32)
counts = []
start = threading.Barrier(32)
def work():
    start.wait()
    for _ in range(3):
        fastconv.conv2d(x, w)
        counts.append(len(os.listdir("/proc/self/task")))
for _ in range(2):
    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(max(counts))
"""
    assert int(run_python(program)) <= 1 + 2 * 32 + 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_parallel_work() -> None:
    """The child of a process whose threads have worked computes the same, and does not hang."""
    program = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, on fork among threads
import numpy as np, fastconv
fastconv.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((8, 16, 32, 32)).astype(np.float32)
w = np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32)
expected = fastconv.conv2d(x, w).tobytes()
child = os.fork()
if child == 0:
    os._exit(fastconv.get_num_threads() != 1 or fastconv.conv2d(x, w).tobytes() != expected)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert fastconv.conv2d(x, w).tobytes() == expected
"""
    assert run_python(program) == "0"
