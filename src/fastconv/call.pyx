# cython: auto_pickle=False
"""What stands around the kernel in every public call, in C: in Python it costs more than a small kernel does.

    Plans        what the checks settled for arguments of these kinds, shapes and values, found again
    fits         whether an `out` may be written as it is
    Arena, Tape  where results live while a block is open: memory that is taken back whole, or a recording
    empty, run   a result's array, and the kernel's call, in whatever is open; `results` for several arrays

Always built for the baseline.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport INT64_MAX, int64_t, intptr_t
from libc.string cimport memcpy

cimport cython
cimport numpy as cnp

cnp.import_array()

cdef extern from *:
    """
    /* The open Arena or Tape of this thread, held by the block that opened it. */
    static _Thread_local PyObject *opened = NULL;
    """
    PyObject* opened

cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(
        PyTypeObject* kind, cnp.dtype dtype, int axes, cnp.npy_intp* sizes, cnp.npy_intp* strides, void* data,
        int flags, PyObject* like,
    )

cdef extern from "Python.h":
    bint PyBool_Check(object value)
    bint PyFloat_CheckExact(object value)
    bint PyLong_CheckExact(object value)
    bint PyTuple_CheckExact(object value)
    bint PyUnicode_CheckExact(object value)
    bint PyUnicode_IS_COMPACT_ASCII(object value)
    const void* PyUnicode_DATA(object value)
    Py_ssize_t PyUnicode_GET_LENGTH(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1

cdef enum:
    KEY_NUMBERS = 96    # of a key: five arrays of four axes, and the numbers of a window, several times over
    KEPT_PLANS = 4096   # a program that sees more shapes than that begins anew
    ALIGNMENT = 64      # bytes: a cache line, and the widest vector register
    LARGE = 65536       # bytes of a result from which on it pays that no vector of it lies in two cache lines
    BLOCK = 262144      # bytes: the least that an arena asks for
    AXES_MAX = 64       # of a NumPy array

cdef enum Kind:
    NONE
    ARRAY
    INTEGER
    BOOLEAN
    REAL
    TEXT
    TUPLE


# ---- plans ------------------------------------------------------------------------------------------------

cdef struct Key:
    Py_ssize_t count
    int64_t numbers[KEY_NUMBERS]


cdef bint is_plain(cnp.ndarray array) noexcept:
    """Float32 or float64 that a kernel reads as it lies."""
    cdef int kind = cnp.PyArray_TYPE(array)
    return (
        (kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64)
        and cnp.PyArray_ISNOTSWAPPED(array)
        and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    )


cdef bint put(Key* key, Kind kind, Py_ssize_t detail, const void* data, Py_ssize_t size) noexcept:
    """Append a kind, a detail below 2**48 and some bytes; false where there is no more room."""
    cdef Py_ssize_t numbers = (size + 7) // 8
    if numbers >= KEY_NUMBERS - key.count:
        return False
    key.numbers[key.count] = kind + (detail << 8)
    if numbers:
        key.numbers[key.count + numbers] = 0  # the rest of the last one
        memcpy(&key.numbers[key.count + 1], data, size)
    key.count += 1 + numbers
    return True


cdef bint describe(Key* key, tuple values):
    """Append what the values are; false for one that is not plain, which the checks must see.

    Kinds are part of the key: True and 1.0 equal 1 and would be taken for it.
    """
    cdef object value
    cdef int overflow = 0
    cdef int64_t integer
    cdef double real
    for value in values:
        if value is None:
            if not put(key, NONE, 0, NULL, 0):
                return False
        elif cnp.PyArray_CheckExact(value):
            if not is_plain(value) or not put(
                key, ARRAY,
                (cnp.PyArray_NDIM(value) * 256 + cnp.PyArray_TYPE(value)) * 2 + cnp.PyArray_ISWRITEABLE(value),
                cnp.PyArray_DIMS(value), cnp.PyArray_NDIM(value) * sizeof(cnp.npy_intp),
            ):
                return False
        elif PyLong_CheckExact(value):
            integer = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow or not put(key, INTEGER, 0, &integer, sizeof(integer)):
                return False
        elif PyTuple_CheckExact(value):
            if not put(key, TUPLE, len(<tuple>value), NULL, 0) or not describe(key, <tuple>value):
                return False
        elif PyBool_Check(value):
            if not put(key, BOOLEAN, value is True, NULL, 0):
                return False
        elif PyFloat_CheckExact(value):
            real = value
            if not put(key, REAL, 0, &real, sizeof(real)):
                return False
        elif PyUnicode_CheckExact(value):
            if not PyUnicode_IS_COMPACT_ASCII(value) or not put(
                key, TEXT, PyUnicode_GET_LENGTH(value), PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value)
            ):
                return False
        else:
            return False
    return True


cdef bytes key_of(tuple values):
    """What the values are, as bytes; None where one is not plain."""
    cdef Key key
    key.count = 0
    if not describe(&key, values):
        return None
    return PyBytes_FromStringAndSize(<const char*>key.numbers, key.count * sizeof(int64_t))


cdef Py_ssize_t generation_now = 0


@cython.final
cdef class Plans:
    """What the checks of one operator settled, by the arguments of the call.

    Arrays count by dtype, shape and whether they may be written, other arguments by kind and value.
    """

    cdef dict plans
    cdef Py_ssize_t made_in     # the generation of the plans

    def __cinit__(self):
        self.plans = {}

    def find(self, *arguments):
        """The plan of an earlier call with arguments like these, or None."""
        cdef bytes key = key_of(arguments)
        return None if key is None or self.made_in != generation_now else self.plans.get(key)

    def keep(self, plan, *arguments):
        """Remember a plan for arguments like these, if they are plain."""
        cdef bytes key = key_of(arguments)
        if key is not None:
            if len(self.plans) >= KEPT_PLANS or self.made_in != generation_now:
                self.plans.clear()
                self.made_in = generation_now
            self.plans[key] = plan


def forget():
    """Forget all plans, and let no recording hold, after a change of what they rest on."""
    global generation_now
    generation_now += 1


def generation():
    """How often all plans were forgotten."""
    return generation_now


cdef bint overlap(a, b):
    """Whether two C-contiguous arrays share a byte."""
    cdef intptr_t first = <intptr_t>cnp.PyArray_DATA(a), second = <intptr_t>cnp.PyArray_DATA(b)
    cdef Py_ssize_t size = cnp.PyArray_NBYTES(a), other_size = cnp.PyArray_NBYTES(b)
    return size > 0 and other_size > 0 and first < second + other_size and second < first + size


def fits(out, tuple shape not None, cnp.dtype dtype not None, tuple inputs not None):
    """Whether `out` is a plain, writable array of that shape and dtype in memory of its own.

    The inputs are plain arrays or None.
    """
    cdef Py_ssize_t k
    cdef object other
    if not cnp.PyArray_CheckExact(out) or not is_plain(out) or not cnp.PyArray_ISWRITEABLE(out) \
            or cnp.PyArray_TYPE(out) != dtype.type_num or cnp.PyArray_NDIM(out) != len(shape):
        return False
    for k in range(len(shape)):
        if cnp.PyArray_DIM(out, k) != <Py_ssize_t>shape[k]:
            return False
    for other in inputs:
        if other is not None and overlap(out, other):
            return False
    return True


def are_labels(labels, Py_ssize_t count, Py_ssize_t classes):
    """Whether `labels` are that many int64 numbers, as a kernel reads them, from 0 to classes - 1."""
    cdef const int64_t* label
    cdef Py_ssize_t k
    if not cnp.PyArray_CheckExact(labels) or cnp.PyArray_TYPE(labels) != cnp.NPY_INT64 \
            or cnp.PyArray_NDIM(labels) != 1 or cnp.PyArray_DIM(labels, 0) != count \
            or not cnp.PyArray_ISNOTSWAPPED(labels) \
            or not cnp.PyArray_CHKFLAGS(labels, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED):
        return False
    label = <const int64_t*>cnp.PyArray_DATA(labels)
    for k in range(count):
        if label[k] < 0 or label[k] >= classes:
            return False
    return True


# ---- where results live -------------------------------------------------------------------------------------

cdef char* aligned(void* data) noexcept:
    return <char*>((<intptr_t>data + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef cnp.ndarray new_array(cnp.dtype dtype, int axes, cnp.npy_intp* sizes, void* data, cnp.ndarray owner):
    """An array over `data`, which is the owner's, or over memory of its own where that is NULL."""
    cdef cnp.ndarray array
    Py_INCREF(dtype)  # the array takes this reference
    array = PyArray_NewFromDescr(
        <PyTypeObject*>cnp.ndarray, dtype, axes, sizes, NULL, data, cnp.NPY_ARRAY_CARRAY if data != NULL else 0, NULL
    )
    if owner is not None:
        cnp.set_array_base(array, owner)
    return array


cdef class Memory:
    """A block that serves the calling thread's `empty` while it is open."""

    cdef PyObject* before
    cdef bint is_open

    def __enter__(self):
        global opened
        if self.is_open:
            raise RuntimeError(f"{type(self).__name__}: this one is in use; one step must end before the next")
        self.is_open = True
        self.before = opened
        opened = <PyObject*>self
        self.begin()
        return self

    def __exit__(self, *exception):
        global opened
        opened = self.before
        self.is_open = False
        self.end()

    cdef begin(self):
        pass

    cdef end(self):
        pass


@cython.final
cdef class Pool:
    """Blocks of memory, handed out piece by piece and taken back together.

    The same pieces in the same order find the same places; a piece that finds none gets a new block.
    """

    cdef list blocks
    cdef Py_ssize_t at, used        # the block that serves, and how much of it is taken
    cdef Py_ssize_t live            # blocks of which something is taken, and those before them

    def __cinit__(self):
        self.blocks = []

    cdef rewind(self):
        self.at = self.used = self.live = 0

    cdef cnp.ndarray take(self, cnp.dtype dtype, int axes, cnp.npy_intp* sizes, Py_ssize_t size):
        cdef cnp.npy_intp bytes_
        cdef cnp.ndarray block
        while self.at < len(self.blocks):
            block = self.blocks[self.at]
            if self.used + size <= cnp.PyArray_DIMS(block)[0] - ALIGNMENT:
                break
            self.at += 1
            self.used = 0
        else:
            del self.blocks[self.live:]  # too small: steps have grown
            self.at = self.live
            bytes_ = max(size, BLOCK) + ALIGNMENT
            block = cnp.PyArray_EMPTY(1, &bytes_, cnp.NPY_UINT8, 0)
            self.blocks.append(block)
        self.used += size
        self.live = self.at + 1
        return new_array(dtype, axes, sizes, aligned(cnp.PyArray_DATA(block)) + self.used - size, block)

    cdef bint holds(self, cnp.ndarray array):
        """Whether the array lies in one of the blocks."""
        cdef char* data = <char*>cnp.PyArray_DATA(array)
        cdef char* start
        cdef cnp.ndarray block
        for block in self.blocks:
            start = <char*>cnp.PyArray_DATA(block)
            if start <= data and data < start + cnp.PyArray_DIMS(block)[0]:
                return True
        return False


@cython.final
cdef class Arena(Memory):
    """Memory that is handed out piece by piece and taken back whole.

    The first ``with`` finds out how much a step needs; from the second on it allocates nothing. Arrays are valid
    until the next one begins: copy what must live longer.
    """

    cdef Pool kept                  # what lives as long as the step
    cdef Pool turn, other_turn      # what lives until the next turn but one
    cdef Pool serving
    cdef bint takes_turns
    cdef list calls                 # what is recorded; None while nothing is

    def __cinit__(self):
        self.kept, self.turn, self.other_turn = Pool(), Pool(), Pool()

    def __reduce__(self):
        """A copy has memory of its own, and finds out anew how much."""
        return Arena, ()

    @property
    def size(self):
        """Bytes of all its memory."""
        cdef Pool pool
        return sum([block.nbytes for pool in (self.kept, self.turn, self.other_turn) for block in pool.blocks])

    def record(self):
        """Begin to write down the kernels that run while this arena is open, each with its arguments."""
        self.calls = []

    def recorded(self):
        """What was written down, which ends here; None if something besides a kernel made one of the numbers."""
        cdef list calls = self.calls
        self.calls = None
        return calls

    cdef begin(self):
        self.kept.rewind()
        self.serving = self.kept
        self.takes_turns = False

    cdef end(self):
        self.calls = None


def begin_turns():
    """Let the open arena serve a chain of steps, each of which needs the result of the last one alone.

    False where no arena is open, or where the caller is itself a step of such a chain.
    """
    cdef Arena arena
    if opened == NULL or type(<object>opened) is not Arena:
        return False
    arena = <Arena>opened
    if arena.takes_turns:
        return False
    arena.takes_turns = True
    return True


def next_turn(cnp.ndarray last not None):
    """Begin the next step of the chain: everything but the last result may be overwritten."""
    cdef Arena arena = <Arena>opened
    arena.serving = arena.other_turn if arena.turn.holds(last) else arena.turn
    arena.serving.rewind()


def end_turns():
    """End the chain; its last result lives on."""
    cdef Arena arena = <Arena>opened
    arena.serving = arena.kept
    arena.takes_turns = False


def may_overwrite(cnp.ndarray array not None):
    """Whether the array is a step's result in a chain: nobody needs it but the step that is given it."""
    cdef Arena arena
    if opened == NULL or type(<object>opened) is not Arena:
        return False
    arena = <Arena>opened
    return arena.turn.holds(array) or arena.other_turn.holds(array)


@cython.final
cdef class Tape(Memory):
    """The kernels that were run while it was open, each with its arguments: `calls`.

    Results are arrays of their own, so that the calls may be made again. `complete` is False if something besides
    a kernel made one of the numbers.
    """

    cdef readonly list calls
    cdef readonly bint complete
    cdef readonly Py_ssize_t size   # bytes of all results

    def __cinit__(self):
        self.calls = []
        self.complete = True


def empty(tuple shape not None, cnp.dtype dtype not None):
    """An uninitialised array: from the calling thread's open arena, else a fresh one."""
    cdef cnp.npy_intp sizes[AXES_MAX]
    cdef int axes = <int>len(shape), k
    cdef Py_ssize_t size = dtype.itemsize
    cdef cnp.npy_intp whole
    cdef cnp.ndarray array, block
    if axes > AXES_MAX:
        raise ValueError(f"shape: expected at most {AXES_MAX} axes; received {axes}")
    for k in range(axes):
        sizes[k] = shape[k]
        size = size * sizes[k] if sizes[k] == 0 or size <= INT64_MAX // 2 // sizes[k] else INT64_MAX // 2
    size = (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    if opened == NULL and size >= LARGE:
        whole = size + ALIGNMENT
        block = cnp.PyArray_EMPTY(1, &whole, cnp.NPY_UINT8, 0)
        return new_array(dtype, axes, sizes, aligned(cnp.PyArray_DATA(block)), block)
    if opened == NULL:
        return new_array(dtype, axes, sizes, NULL, None)
    if type(<object>opened) is Arena:
        return (<Arena>opened).serving.take(dtype, axes, sizes, size)
    array = new_array(dtype, axes, sizes, NULL, None)
    (<Tape>opened).size += size
    return array


def results(given, tuple wants not None, tuple shapes not None, cnp.dtype dtype not None, tuple inputs not None):
    """The arrays of several results, as a tuple: those wanted, each the one that was given or an empty one.

    None if an array that was given does not fit.
    """
    cdef Py_ssize_t k, j, count = len(wants)
    cdef list found = [None] * count
    if type(given) is not tuple or len(<tuple>given) != count:
        return None
    for k in range(count):
        if wants[k] is True and (<tuple>given)[k] is not None:
            found[k] = (<tuple>given)[k]
            if not fits(found[k], shapes[k], dtype, inputs):
                return None
            for j in range(k):
                if found[j] is not None and overlap(found[k], found[j]):
                    return None
    for k in range(count):
        if found[k] is None and wants[k] is True:
            found[k] = empty(shapes[k], dtype)
    return tuple(found)


def run(kernel, *arguments):
    """Call a kernel with its arrays and numbers."""
    cdef list calls
    if opened != NULL:
        calls = (<Tape>opened).calls if type(<object>opened) is Tape else (<Arena>opened).calls
        if calls is not None:
            calls.append((kernel, arguments))
    return kernel(*arguments)


def is_open():
    """Whether an arena or a tape is open in this thread."""
    return opened != NULL


def not_a_kernel():
    """Say that the caller computes by other means what it returns: an open tape or recording is not complete."""
    if opened == NULL:
        return
    if type(<object>opened) is Tape:
        (<Tape>opened).complete = False
    else:
        (<Arena>opened).calls = None
