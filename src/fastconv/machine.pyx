"""The arithmetic limit of the running build, measured: what every share-of-peak figure is a share of."""

from cython.parallel cimport prange
from libc.stdlib cimport malloc, free

from fastconv.simd cimport LANES, VECTOR_BYTES, real, vreal, vset, vsum

cdef enum:
    CHAINS = 12                 # independent multiply-adds: enough to hide their latency on every build


cdef void multiply_add_chains(Py_ssize_t steps, const real* factor, real* result) noexcept nogil:
    cdef vreal acc[CHAINS]
    cdef vreal scale = vset(factor[0]), shift = vset(factor[1])
    cdef Py_ssize_t _step
    cdef int j
    for j in range(CHAINS):
        acc[j] = vset(factor[0] * j)
    for _step in range(steps):
        for j in range(CHAINS):
            acc[j] = acc[j] * scale + shift
    for j in range(1, CHAINS):
        acc[0] = acc[0] + acc[j]
    result[0] = vsum(acc[0])


def multiply_adds(Py_ssize_t steps, int threads):
    """Run `steps` rounds of register-only multiply-adds on each thread; the operations done, two a lane."""
    cdef real[2] factor = [<real>0.5, <real>0.25]
    cdef real* results = <real*>malloc(threads * 64 * sizeof(real))
    cdef int thread
    if results == NULL:
        raise MemoryError("multiply_adds: no memory for one result per thread")
    with nogil:
        for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            multiply_add_chains(steps, factor, results + thread * 64)
        free(results)
    return <double>steps * CHAINS * LANES * 2 * threads


def vector_bytes():
    """The width of a vector register in this build."""
    return VECTOR_BYTES
