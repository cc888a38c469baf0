"""What stands around a kernel: plans that tell arguments apart, arrays that fit, memory that comes back."""

from __future__ import annotations

import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from checks import LAYOUTS

from fastconv import _call
from fastconv._call import Arena, Plans, Tape

FLOAT32 = np.dtype(np.float32)


def array(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def read_only(*shape: int) -> np.ndarray:
    a = array(*shape)
    a.flags.writeable = False
    return a


# Of these no two are alike, though many are equal or hash alike.
DIFFERENT: list[tuple[Any, ...]] = [
    (),
    (None,),
    (None, None),
    (0,),
    (1,),
    (-1,),
    (2**62,),
    (True,),
    (False,),
    (1.0,),
    (0.0,),
    (-0.0,),
    ("",),
    ("1",),
    ("same",),
    ("valid",),
    ("a" * 8,),
    ("a" * 9,),
    ((),),
    ((1,),),
    ((1, 1),),
    (1, 1),
    ((1, True),),
    ((1.0, 1),),
    (((1, 1), (1, 1)),),
    ((1, 1), (1, 1)),
    (((1, 1), 1, 1),),
    (array(),),
    (array(0),),
    (array(1),),
    (array(1, 1),),
    (array(2, 3),),
    (array(3, 2),),
    (array(2, 3, dtype=np.float64),),
    (array(2), array(3)),
    (array(2), 3),
    (read_only(2, 3),),
]


def test_every_plan_is_found_for_its_own_arguments() -> None:
    plans = Plans()
    for number, arguments in enumerate(DIFFERENT):
        assert plans.find(*arguments) is None, arguments
        plans.keep(number, *arguments)
    for number, arguments in enumerate(DIFFERENT):
        assert plans.find(*arguments) == number, arguments
    _call.forget()
    assert all(plans.find(*arguments) is None for arguments in DIFFERENT)
    plans.keep("new", 1)
    assert [plans.find(*arguments) for arguments in DIFFERENT if plans.find(*arguments) is not None] == ["new"]


class Number(int):
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.int64(1),
        np.float32(1),
        np.bool_(True),
        Number(1),
        2**63,
        -(2**70),
        1j,
        b"1",
        "gr\u00f6\u00dfer",
        "\ud800",
        [1, 1],
        {1: 1},
        (1, [1]),
        (1, np.int64(1)),
        np.ma.masked_array(array(2)),
        array(2).view(np.memmap),
        array(2, dtype=np.float16),
        array(2, dtype=np.int64),
        array(2, dtype=object),
        tuple(range(200)),
        "a" * 1000,
        *(layout(array(4, 5, 6)) for layout in LAYOUTS if layout.__name__ != "read_only"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_checked_every_time(value: Any) -> None:
    plans = Plans()
    plans.keep("plan", 1, value)
    assert plans.find(1, value) is None


def test_deep_tuples_do_not_overflow() -> None:
    deep: Any = ()
    for _ in range(10_000):
        deep = (deep,)
    assert Plans().find(deep) is None


def test_plans_are_bounded() -> None:
    plans = Plans()
    for number in range(10_000):
        plans.keep(number, number)
    assert plans.find(9_999) == 9_999
    assert plans.find(0) is None


def test_fits() -> None:
    block = array(20)
    out, shape = block[:6].reshape(2, 3), (2, 3)
    assert _call.fits(out, shape, FLOAT32, (block[6:], None, array(2, 3)))
    for other in (block, block[5:], block[:1], out):
        assert not _call.fits(out, shape, FLOAT32, (None, other))
    assert _call.fits(block[5:5], (0,), FLOAT32, (block,))
    assert _call.fits(block, (20,), FLOAT32, (block[5:5],))
    for wrong in (None, [1], array(3, 2), array(6), array(2, 3, dtype=np.float64), read_only(2, 3), np.ma.array(out)):
        assert not _call.fits(wrong, shape, FLOAT32, ())
    for layout in LAYOUTS:
        assert not _call.fits(layout(out), shape, FLOAT32, ())


def test_results() -> None:
    shapes, x, a, b = ((2,), (3,), (4,)), array(5), array(3), array(4)
    every = (True, True, True)
    first, second, third = _call.results((None, a, b), every, shapes, FLOAT32, (x,))
    assert first.shape == (2,)
    assert second is a
    assert third is b
    assert _call.results((a, a, b), (False, True, False), shapes, FLOAT32, (x,)) == (None, a, None)
    for wrong in ([None] * 3, (None, a), (b, a, None), (None, a, array(4, dtype=np.float64)), (None, x[:3], None)):
        assert _call.results(wrong, every, shapes, FLOAT32, (x,)) is None
    block = array(6)
    assert _call.results((None, block[:3], block[2:]), every, shapes, FLOAT32, (x,)) is None


def test_arena_gives_the_same_memory_again() -> None:
    arena, shapes = Arena(), [(3,), (0, 2), (5, 7), (), (1000,)]
    steps = []
    for _ in range(3):
        with arena:
            arrays = [_call.empty(shape, FLOAT32) for shape in shapes]
            assert [a.shape for a in arrays] == shapes
            for i, a in enumerate(arrays):
                assert not any(np.shares_memory(a, other) for other in arrays[:i])
                a.fill(i)
            steps.append(arrays)
            assert all((a == i).all() for i, a in enumerate(arrays))
    for a, b in zip(steps[1], steps[2], strict=True):
        assert a is not b
        assert a.ctypes.data == b.ctypes.data
        assert a.ctypes.data % 64 == 0
        assert a.size == 0 or np.shares_memory(a, b)
    with arena:
        larger = _call.empty((100_000,), FLOAT32)  # beyond what there is: an array of its own
        assert not np.shares_memory(larger, steps[2][4])
    assert not np.shares_memory(_call.empty((3,), FLOAT32), steps[2][0])  # closed


def test_arrays_outlive_their_arena() -> None:
    arena = Arena()
    for _ in range(2):
        with arena:
            kept = _call.empty((1000,), FLOAT32)
    kept.fill(7)
    del arena
    assert (kept == 7).all()


def test_arenas_nest_and_belong_to_a_thread() -> None:
    outer, inner = Arena(), Arena()
    found: list[np.ndarray] = []
    with pytest.raises(RuntimeError, match="in use"), outer, outer:
        pass
    for _ in range(2):
        with outer:
            a = _call.empty((8,), FLOAT32)
            with inner:
                b = _call.empty((8,), FLOAT32)
            c = _call.empty((8,), FLOAT32)
            thread = threading.Thread(target=lambda: found.append(_call.empty((8,), FLOAT32)))
            thread.start()
            thread.join()
    assert c.ctypes.data - a.ctypes.data == 64
    assert b.base is not a.base
    assert found[1].base is None
    with pytest.raises(KeyError), outer:
        raise KeyError
    with outer:
        assert _call.empty((8,), FLOAT32).ctypes.data == a.ctypes.data


def test_sizes_beyond_any_memory() -> None:
    arena = Arena()
    for shape in ((2**62, 2**62), (2**63 - 1,), (-1,), (1,) * 70):
        for _ in range(2):
            with pytest.raises((ValueError, MemoryError)), arena:
                _call.empty(shape, FLOAT32)


def test_copy_of_an_arena_is_empty() -> None:
    arena = Arena()
    with arena:
        _call.empty((1000,), FLOAT32)
        kept = _call.empty((8,), FLOAT32)
    with pickle.loads(pickle.dumps(arena)):
        assert not np.shares_memory(_call.empty((8,), FLOAT32).base, kept.base)


def test_arena_lets_idle_blocks_go() -> None:
    """Where each step is larger than the one before, no more than the last is held."""
    arena = Arena()
    blocks: dict[int, weakref.ref[np.ndarray]] = {}
    for size in range(100_000, 3_000_000, 100_000):
        with arena:
            for _ in range(3):
                block = _call.empty((size,), FLOAT32).base
                blocks[id(block)] = weakref.ref(block)
            del block
    held = [block.nbytes for reference in blocks.values() if (block := reference()) is not None]
    step = 3 * 4 * size
    assert step <= sum(held) <= step + 2**10


def test_a_chain_takes_turns() -> None:
    """Each result survives the step that reads it, and no more memory is taken than two steps need."""
    arena, count = Arena(), 100_000
    for _ in range(2):
        with arena:
            outside = _call.empty((count,), FLOAT32)
            outside.fill(-1)
            assert _call.begin_turns()
            assert not _call.begin_turns()  # a chain within a step is one step
            places, last = set(), outside
            for i in range(6):
                _call.next_turn(last)
                result = _call.empty((count,), FLOAT32)
                assert not np.shares_memory(result, last)
                result.fill(i)
                assert (last == i - 1).all()
                last = result[:] if i % 2 else result  # a view of it is as good
                places.add(result.ctypes.data)
                _call.next_turn(last)
                assert (last == i).all()  # a step without a result of its own changes nothing
            assert len(places) == 2
            _call.end_turns()
            after = _call.empty((count,), FLOAT32)
            assert not any(np.shares_memory(after, other) for other in (outside, last))
            assert (outside == -1).all()
    assert not _call.begin_turns()  # no arena is open


def test_tape() -> None:
    assert not _call.is_open()
    with Tape() as tape:
        assert _call.is_open()
        a = _call.empty((4, 8), FLOAT32)
        assert _call.run(divmod, 7, 2) == (3, 1)
    assert a.base is None
    assert tape.calls == [(divmod, (7, 2))]
    assert (tape.complete, tape.size) == (True, 128)
    _call.run(divmod, 7, 2)
    _call.not_a_kernel()
    assert (len(tape.calls), tape.complete) == (1, True)
    with Tape() as tape:
        _call.not_a_kernel()
    assert not tape.complete
