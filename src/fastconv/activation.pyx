"""Elementwise activations and softmax, each with its derivative written in the output.

Elementwise work is cut into blocks of a fixed size, softmax into rows. Arrays are C order and were validated
by the caller; an elementwise output may be its input.
"""

from cython.parallel cimport prange

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.row cimport largest, softmax_of
from fastconv.simd cimport (
    LANES, LEAKY_RELU, LINEAR, RELU, SIGMOID, TANH, real, vactivate, vactivate_backward, vload, vload_partial, vreal,
    vset, vstore, vstore_partial, vsum,
)

cnp.import_array()

cdef enum:
    BLOCK = 16384
    WORK_PER_ELEMENT = 16       # in multiply-adds, for the choice of a team: it is memory that takes the time


cdef inline void activate_each(
    const real* x, real* y, Py_ssize_t count, const int activation, real slope,
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef int rest
    while i + LANES <= count:
        vstore(y + i, vactivate(vload(x + i), activation, slope))
        i += LANES
    rest = <int>(count - i)
    if rest:
        vstore_partial(y + i, vactivate(vload_partial(x + i, rest), activation, slope), rest)


cdef void activate_block(const real* x, real* y, Py_ssize_t count, int activation, real slope) noexcept nogil:
    """The activation as a literal, so that no loop chooses for each vector."""
    if activation == RELU:
        activate_each(x, y, count, RELU, slope)
    elif activation == LEAKY_RELU:
        activate_each(x, y, count, LEAKY_RELU, slope)
    elif activation == SIGMOID:
        activate_each(x, y, count, SIGMOID, slope)
    elif activation == TANH:
        activate_each(x, y, count, TANH, slope)
    else:
        activate_each(x, y, count, LINEAR, slope)


cdef inline void activate_each_backward(
    const real* grad_y, const real* y, real* grad_x, Py_ssize_t count, const int activation, real slope,
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef int rest
    while i + LANES <= count:
        vstore(grad_x + i, vactivate_backward(vload(grad_y + i), vload(y + i), activation, slope))
        i += LANES
    rest = <int>(count - i)
    if rest:
        vstore_partial(
            grad_x + i,
            vactivate_backward(vload_partial(grad_y + i, rest), vload_partial(y + i, rest), activation, slope),
            rest,
        )


cdef void activate_block_backward(
    const real* grad_y, const real* y, real* grad_x, Py_ssize_t count, int activation, real slope,
) noexcept nogil:
    if activation == RELU:
        activate_each_backward(grad_y, y, grad_x, count, RELU, slope)
    elif activation == LEAKY_RELU:
        activate_each_backward(grad_y, y, grad_x, count, LEAKY_RELU, slope)
    elif activation == SIGMOID:
        activate_each_backward(grad_y, y, grad_x, count, SIGMOID, slope)
    elif activation == TANH:
        activate_each_backward(grad_y, y, grad_x, count, TANH, slope)
    else:
        activate_each_backward(grad_y, y, grad_x, count, LINEAR, slope)


def forward(cnp.ndarray x not None, cnp.ndarray y not None, int activation, double slope, int threads):
    """y = activation(x)."""
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(x), blocks = (size + BLOCK - 1) // BLOCK, block
    cdef int team = team_size(<double>size * WORK_PER_ELEMENT, blocks, threads)
    with nogil:
        if team == 1:
            activate_block(x_data, y_data, size, activation, <real>slope)
        else:
            for block in prange(blocks, num_threads=team, schedule="static"):
                activate_block(
                    x_data + block * BLOCK, y_data + block * BLOCK, min(<Py_ssize_t>BLOCK, size - block * BLOCK),
                    activation, <real>slope,
                )


def backward(
    cnp.ndarray grad_y not None, cnp.ndarray y not None, cnp.ndarray grad_x not None, int activation, double slope,
    int threads,
):
    """grad_x = grad_y * activation'(x), with the derivative written in y = activation(x)."""
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef const real* y_data = <const real*>cnp.PyArray_DATA(y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(y), blocks = (size + BLOCK - 1) // BLOCK, block
    cdef int team = team_size(<double>size * WORK_PER_ELEMENT, blocks, threads)
    with nogil:
        if team == 1:
            activate_block_backward(grad_y_data, y_data, grad_x_data, size, activation, <real>slope)
        else:
            for block in prange(blocks, num_threads=team, schedule="static"):
                activate_block_backward(
                    grad_y_data + block * BLOCK, y_data + block * BLOCK, grad_x_data + block * BLOCK,
                    min(<Py_ssize_t>BLOCK, size - block * BLOCK), activation, <real>slope,
                )


cdef void softmax_row(const real* x, real* y, Py_ssize_t count) noexcept nogil:
    softmax_of(x, largest(x, count), 1, y, count)


cdef void softmax_row_backward(const real* grad_y, const real* y, real* grad_x, Py_ssize_t count) noexcept nogil:
    """grad_x = y * (grad_y - <grad_y, y>)."""
    cdef vreal sums = vset(0), total
    cdef Py_ssize_t i = 0
    cdef int rest
    while i + LANES <= count:
        sums = sums + vload(grad_y + i) * vload(y + i)
        i += LANES
    rest = <int>(count - i)
    if rest:
        sums = sums + vload_partial(grad_y + i, rest) * vload_partial(y + i, rest)
    total = vset(vsum(sums))
    i = 0
    while i + LANES <= count:
        vstore(grad_x + i, vload(y + i) * (vload(grad_y + i) - total))
        i += LANES
    if rest:
        vstore_partial(grad_x + i, vload_partial(y + i, rest) * (vload_partial(grad_y + i, rest) - total), rest)


def softmax_forward(cnp.ndarray x not None, cnp.ndarray y not None, int threads):
    """Softmax of each row of x, a matrix."""
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(x, 0), count = cnp.PyArray_DIM(x, 1), row
    cdef int team = team_size(<double>rows * count * WORK_PER_ELEMENT, rows, threads)
    with nogil:
        if team == 1:
            for row in range(rows):
                softmax_row(x_data + row * count, y_data + row * count, count)
        else:
            for row in prange(rows, num_threads=team, schedule="static"):
                softmax_row(x_data + row * count, y_data + row * count, count)


def softmax_backward(
    cnp.ndarray grad_y not None, cnp.ndarray y not None, cnp.ndarray grad_x not None, int threads,
):
    """grad_x of each row of a softmax whose output was y."""
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef const real* y_data = <const real*>cnp.PyArray_DATA(y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(y, 0), count = cnp.PyArray_DIM(y, 1), row
    cdef int team = team_size(<double>rows * count * WORK_PER_ELEMENT, rows, threads)
    with nogil:
        if team == 1:
            for row in range(rows):
                softmax_row_backward(grad_y_data + row * count, y_data + row * count, grad_x_data + row * count, count)
        else:
            for row in prange(rows, num_threads=team, schedule="static"):
                softmax_row_backward(grad_y_data + row * count, y_data + row * count, grad_x_data + row * count, count)
