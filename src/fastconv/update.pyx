"""Optimizer steps, fused: one pass over the flat buffers of parameters, gradients and state.

Arrays are flat, C order and of one length, validated by the caller.
"""

from cython.parallel cimport prange
from libc.math cimport pow, sqrt

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.simd cimport real

cnp.import_array()

cdef extern from "math.h" nogil:
    float sqrtf(float x)

cdef enum:
    BLOCK = 8192
    SGD_WORK = 8                # what a parameter's step costs, in multiply-adds
    ADAM_WORK = 40


cdef inline real square_root(real x) noexcept nogil:
    # Chosen when C compiles it: Cython itself takes every `real` for a float.
    return <real>sqrt(x) if sizeof(real) == 8 else <real>sqrtf(<float>x)


cdef void sgd_block(
    real* parameter, const real* gradient, real* velocity, Py_ssize_t count, real rate, real momentum, bint nesterov,
) noexcept nogil:
    cdef Py_ssize_t i
    if velocity == NULL:
        for i in range(count):
            parameter[i] -= rate * gradient[i]
    elif nesterov:
        for i in range(count):
            velocity[i] = momentum * velocity[i] - rate * gradient[i]
            parameter[i] += momentum * velocity[i] - rate * gradient[i]
    else:
        for i in range(count):
            velocity[i] = momentum * velocity[i] - rate * gradient[i]
            parameter[i] += velocity[i]


def sgd(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray velocity,
    double rate, double momentum, bint nesterov, int threads,
):
    """velocity = momentum*velocity - rate*gradient; parameter += velocity (or Nesterov's look-ahead)."""
    cdef real* parameter = <real*>cnp.PyArray_DATA(parameters)
    cdef const real* gradient = <const real*>cnp.PyArray_DATA(gradients)
    cdef real* state = <real*>cnp.PyArray_DATA(velocity) if velocity is not None else NULL
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters), blocks = (size + BLOCK - 1) // BLOCK, block
    cdef int team = team_size(<double>size * SGD_WORK, blocks, threads)
    with nogil:
        if team == 1:
            sgd_block(parameter, gradient, state, size, <real>rate, <real>momentum, nesterov)
        else:
            for block in prange(blocks, num_threads=team, schedule="static"):
                sgd_block(
                    parameter + block * BLOCK, gradient + block * BLOCK,
                    state + block * BLOCK if state != NULL else NULL,
                    min(<Py_ssize_t>BLOCK, size - block * BLOCK), <real>rate, <real>momentum, nesterov,
                )


cdef void adam_block(
    real* parameter, const real* gradient, real* first, real* second, Py_ssize_t count,
    real rate, real beta_1, real beta_2, real rest_1, real rest_2, real inverse_root, real epsilon,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        first[i] = beta_1 * first[i] + rest_1 * gradient[i]
        second[i] = beta_2 * second[i] + rest_2 * gradient[i] * gradient[i]
        parameter[i] -= rate * first[i] / (square_root(second[i]) * inverse_root + epsilon)


def adam(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray first_moment not None,
    cnp.ndarray second_moment not None, double rate, double beta_1, double beta_2, double epsilon, Py_ssize_t step,
    int threads,
):
    """Adam with its bias corrections folded into the rate and the root (Kingma and Ba 2015, algorithm 1)."""
    cdef real* parameter = <real*>cnp.PyArray_DATA(parameters)
    cdef const real* gradient = <const real*>cnp.PyArray_DATA(gradients)
    cdef real* first = <real*>cnp.PyArray_DATA(first_moment)
    cdef real* second = <real*>cnp.PyArray_DATA(second_moment)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters), blocks = (size + BLOCK - 1) // BLOCK, block
    cdef int team = team_size(<double>size * ADAM_WORK, blocks, threads)
    # 1 - beta is subtracted in double: in float32 it would lose the digits that the correction cancels.
    cdef real rest_1 = <real>(1 - beta_1), rest_2 = <real>(1 - beta_2)
    cdef real corrected = <real>(rate / (1 - pow(beta_1, <double>step)))
    cdef real inverse_root = <real>(1 / sqrt(1 - pow(beta_2, <double>step)))
    with nogil:
        if team == 1:
            adam_block(
                parameter, gradient, first, second, size, corrected, <real>beta_1, <real>beta_2, rest_1, rest_2,
                inverse_root, <real>epsilon,
            )
        else:
            for block in prange(blocks, num_threads=team, schedule="static"):
                adam_block(
                    parameter + block * BLOCK, gradient + block * BLOCK, first + block * BLOCK,
                    second + block * BLOCK, min(<Py_ssize_t>BLOCK, size - block * BLOCK), corrected,
                    <real>beta_1, <real>beta_2, rest_1, rest_2, inverse_root, <real>epsilon,
                )
