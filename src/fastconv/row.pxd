"""One row of logits: what softmax and the loss on it share."""

from libc.math cimport INFINITY

from fastconv.simd cimport (
    LANES, real, vexp, vfirst, vload, vload_padded, vload_partial, vmax, vmaximum, vreal, vset, vstore,
    vstore_partial, vsum,
)


cdef inline real largest(const real* x, Py_ssize_t count) noexcept nogil:
    """The maximum, for a finite row."""
    cdef Py_ssize_t i = 0
    cdef vreal highest = vset(-INFINITY)
    while i + LANES <= count:
        highest = vmaximum(highest, vload(x + i))
        i += LANES
    if i < count:
        highest = vmaximum(highest, vload_padded(x + i, <int>(count - i), -INFINITY))
    return vmax(highest)


cdef inline real softmax_of(const real* x, real top, real weight, real* y, Py_ssize_t count) noexcept nogil:
    """y = weight e^(x - top) / total, and the total, that is the sum of e^(x - top), for the largest x as `top`.

    No exponent is positive, so nothing overflows. Of a NaN in x the whole row becomes NaN, through its exponential.
    """
    cdef vreal highest = vset(top), value = vset(0), sums = vset(0), factor
    cdef Py_ssize_t i = 0, whole = count - count % LANES
    cdef int rest = <int>(count - whole)
    cdef real total
    while i < whole:
        value = vexp(vload(x + i) - highest)
        sums = sums + value
        vstore(y + i, value)
        i += LANES
    if rest:  # 0 after the last: an exponent of -inf would underflow, which is slow
        value = vfirst(vexp(vfirst(vload_partial(x + i, rest) - highest, rest)), rest)
        sums = sums + value
    total = vsum(sums)
    factor = vset(weight / total)
    i = 0
    while i < whole:
        vstore(y + i, vload(y + i) * factor)
        i += LANES
    if rest:
        vstore_partial(y + i, value * factor, rest)
    return total
