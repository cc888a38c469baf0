"""Softmax cross-entropy: the loss and its gradient in one pass over the logits.

    loss_n = log(sum_j e^(z_nj - m_n)) - (z_n,label - m_n),  m_n = max_j z_nj
    grad_nj = w_n/N (softmax(z_n)_j - [j = label])

A task is one row. The losses of the rows are added serially in double precision. Arrays are C order and were
validated by the caller.
"""

from cython.parallel cimport prange
from libc.math cimport log
from libc.stdint cimport int64_t

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.row cimport largest, softmax_of
from fastconv.simd cimport real

cnp.import_array()


cdef double cross_entropy_row(
    const real* logits, Py_ssize_t classes, int64_t label, real weight, real* grad,
) noexcept nogil:
    cdef real top = largest(logits, classes), total = softmax_of(logits, top, weight, grad, classes)
    grad[label] -= weight
    return log(<double>total) - (<double>logits[label] - <double>top)


def softmax_cross_entropy(
    cnp.ndarray logits not None, cnp.ndarray labels not None, cnp.ndarray sample_weight,
    cnp.ndarray losses not None, cnp.ndarray grad not None, int threads,
):
    """Fill grad (N, classes) and the losses (N,) in float64; the mean loss, weighted."""
    cdef const real* logits_data = <const real*>cnp.PyArray_DATA(logits)
    cdef const int64_t* labels_data = <const int64_t*>cnp.PyArray_DATA(labels)
    cdef const real* weight_data = <const real*>cnp.PyArray_DATA(sample_weight) if sample_weight is not None else NULL
    cdef double* losses_data = <double*>cnp.PyArray_DATA(losses)
    cdef real* grad_data = <real*>cnp.PyArray_DATA(grad)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(logits, 0), classes = cnp.PyArray_DIM(logits, 1), row
    cdef int team = team_size(<double>rows * classes * 4, rows, threads)
    cdef real share = <real>(1.0 / rows)
    cdef double total = 0
    with nogil:
        if team == 1:
            for row in range(rows):
                losses_data[row] = cross_entropy_row(
                    logits_data + row * classes, classes, labels_data[row],
                    share * weight_data[row] if weight_data != NULL else share, grad_data + row * classes,
                )
        else:
            for row in prange(rows, num_threads=team, schedule="static"):
                losses_data[row] = cross_entropy_row(
                    logits_data + row * classes, classes, labels_data[row],
                    share * weight_data[row] if weight_data != NULL else share, grad_data + row * classes,
                )
        for row in range(rows):
            total += losses_data[row] * weight_data[row] if weight_data != NULL else losses_data[row]
    return total / rows
