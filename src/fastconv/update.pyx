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
    STATES = 3                  # arrays that an optimizer keeps, at most
    SUM_WORK = 32               # what a parameter's step costs, in multiply-adds
    ROOT_WORK = 64

cdef struct Step:
    real* parameter
    const real* gradient
    real* state[STATES]         # NULL where there is none
    real rate
    real momentum
    real rho                    # decay of a mean of squares
    real rest                   # 1 - rho
    real epsilon
    # of Adam and its kin
    real decay                  # of the mean of gradients
    real fresh                  # 1 - decay
    real ahead                  # what the gradient itself counts in a step
    real inverse_root           # bias correction of the root
    bint nesterov

# One block of a step: `count` numbers from `start` on.
ctypedef void (*Block)(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil


cdef inline real square_root(real x) noexcept nogil:
    # Chosen when C compiles it: Cython itself takes every `real` for a float.
    return <real>sqrt(x) if sizeof(real) == 8 else <real>sqrtf(<float>x)


cdef inline real* state_of(const Step* s, int which, Py_ssize_t start) noexcept nogil:
    return s.state[which] + start if s.state[which] != NULL else NULL


cdef void run_blocks(const Step* s, Block compute, Py_ssize_t size, Py_ssize_t work, int threads) noexcept nogil:
    cdef Py_ssize_t blocks = (size + BLOCK - 1) // BLOCK, block
    cdef int team = team_size(<double>size * work, blocks, threads)
    if team == 1:
        compute(s, 0, size)
    else:
        for block in prange(blocks, num_threads=team, schedule="static"):
            compute(s, block * BLOCK, min(<Py_ssize_t>BLOCK, size - block * BLOCK))


cdef real* data(cnp.ndarray array):
    return <real*>cnp.PyArray_DATA(array) if array is not None else NULL


cdef Step step_of(cnp.ndarray parameters, cnp.ndarray gradients, cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    cdef Step s
    s.parameter = data(parameters)
    s.gradient = data(gradients)
    s.state = [data(a), data(b), data(c)]
    return s


cdef void sgd_block(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef real* parameter = s.parameter + start
    cdef const real* gradient = s.gradient + start
    cdef real* velocity = state_of(s, 0, start)
    cdef real rate = s.rate, momentum = s.momentum
    cdef Py_ssize_t i
    if velocity == NULL:
        for i in range(count):
            parameter[i] -= rate * gradient[i]
    elif s.nesterov:
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
    cdef Step s = step_of(parameters, gradients, velocity, None, None)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters)
    s.rate = <real>rate
    s.momentum = <real>momentum
    s.nesterov = nesterov
    with nogil:
        run_blocks(&s, sgd_block, size, SUM_WORK, threads)


cdef void adam_block(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef real* parameter = s.parameter + start
    cdef const real* gradient = s.gradient + start
    cdef real* first = state_of(s, 0, start)
    cdef real* second = state_of(s, 1, start)
    cdef real rate = s.rate, ahead = s.ahead, decay = s.decay, fresh = s.fresh, rho = s.rho, rest = s.rest
    cdef real inverse_root = s.inverse_root, epsilon = s.epsilon
    cdef Py_ssize_t i
    for i in range(count):
        first[i] = decay * first[i] + fresh * gradient[i]
        second[i] = rho * second[i] + rest * gradient[i] * gradient[i]
        parameter[i] -= (rate * first[i] + ahead * gradient[i]) / (square_root(second[i]) * inverse_root + epsilon)


def adam(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray first_moment not None,
    cnp.ndarray second_moment not None, double rate, double ahead, double beta_1, double beta_2, double epsilon,
    Py_ssize_t step, int threads,
):
    """Adam; `rate` and `ahead`, the weights of the mean and of the gradient, have their bias corrections in them."""
    cdef Step s = step_of(parameters, gradients, first_moment, second_moment, None)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters)
    s.rate = <real>rate
    s.ahead = <real>ahead
    s.decay = <real>beta_1
    s.rho = <real>beta_2
    # 1 - beta is subtracted in double: in float32 it would lose the digits that the correction cancels.
    s.fresh = <real>(1 - beta_1)
    s.rest = <real>(1 - beta_2)
    s.inverse_root = <real>(1 / sqrt(1 - pow(beta_2, <double>step)))
    s.epsilon = <real>epsilon
    with nogil:
        run_blocks(&s, adam_block, size, ROOT_WORK, threads)


cdef void adagrad_block(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef real* parameter = s.parameter + start
    cdef const real* gradient = s.gradient + start
    cdef real* total = state_of(s, 0, start)
    cdef real rate = s.rate, epsilon = s.epsilon
    cdef Py_ssize_t i
    for i in range(count):
        total[i] += gradient[i] * gradient[i]
        parameter[i] -= rate * gradient[i] / (square_root(total[i]) + epsilon)


def adagrad(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray accumulator not None,
    double rate, double epsilon, int threads,
):
    """accumulator += gradient^2; parameter -= rate * gradient / (sqrt(accumulator) + epsilon)."""
    cdef Step s = step_of(parameters, gradients, accumulator, None, None)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters)
    s.rate = <real>rate
    s.epsilon = <real>epsilon
    with nogil:
        run_blocks(&s, adagrad_block, size, ROOT_WORK, threads)


cdef void adadelta_block(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef real* parameter = s.parameter + start
    cdef const real* gradient = s.gradient + start
    cdef real* square = state_of(s, 0, start)
    cdef real* moved = state_of(s, 1, start)
    cdef real rate = s.rate, rho = s.rho, rest = s.rest, epsilon = s.epsilon, delta
    cdef Py_ssize_t i
    for i in range(count):
        square[i] = rho * square[i] + rest * gradient[i] * gradient[i]
        delta = square_root((moved[i] + epsilon) / (square[i] + epsilon)) * gradient[i]
        moved[i] = rho * moved[i] + rest * delta * delta
        parameter[i] -= rate * delta


def adadelta(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray mean_square not None,
    cnp.ndarray mean_square_step not None, double rate, double rho, double epsilon, int threads,
):
    """d = sqrt((mean of d^2 + epsilon) / (mean of gradient^2 + epsilon)) * gradient; parameter -= rate * d."""
    cdef Step s = step_of(parameters, gradients, mean_square, mean_square_step, None)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters)
    s.rate = <real>rate
    s.rho = <real>rho
    s.rest = <real>(1 - rho)
    s.epsilon = <real>epsilon
    with nogil:
        run_blocks(&s, adadelta_block, size, ROOT_WORK, threads)


cdef void rmsprop_block(const Step* s, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef real* parameter = s.parameter + start
    cdef const real* gradient = s.gradient + start
    cdef real* square = state_of(s, 0, start)
    cdef real* mean = state_of(s, 1, start)
    cdef real* velocity = state_of(s, 2, start)
    cdef real rate = s.rate, rho = s.rho, rest = s.rest, momentum = s.momentum, epsilon = s.epsilon, spread, step
    cdef Py_ssize_t i
    for i in range(count):
        square[i] = rho * square[i] + rest * gradient[i] * gradient[i]
        spread = square[i]
        if mean != NULL:
            mean[i] = rho * mean[i] + rest * gradient[i]
            spread = spread - mean[i] * mean[i]
            spread = 0 if spread < 0 else spread  # rounding
        step = rate * gradient[i] / (square_root(spread) + epsilon)
        if velocity != NULL:
            velocity[i] = momentum * velocity[i] - step
            step = -velocity[i]
        parameter[i] -= step


def rmsprop(
    cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray mean_square not None,
    cnp.ndarray mean, cnp.ndarray velocity, double rate, double rho, double momentum, double epsilon, int threads,
):
    """parameter -= rate * gradient / (root of the mean square, less the squared mean where there is one, + epsilon)."""
    cdef Step s = step_of(parameters, gradients, mean_square, mean, velocity)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(parameters)
    s.rate = <real>rate
    s.rho = <real>rho
    s.rest = <real>(1 - rho)
    s.momentum = <real>momentum
    s.epsilon = <real>epsilon
    with nogil:
        run_blocks(&s, rmsprop_block, size, ROOT_WORK, threads)
