"""The vector register of simd.h as Cython sees it.

Cython takes `vreal` for one `real`: it emits plain C operators, and the compiler makes vector arithmetic
of them. A `vreal` must therefore never be converted to a Python object or to a `real`.
"""

from libc.stdint cimport uint8_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vreal
    ctypedef int ireal              # an integer as wide as a real
    ctypedef int vint
    enum: LANES
    enum: TILE_ROWS_1
    enum: TILE_ROWS_2
    enum: TILE_ROWS_3
    enum: TILE_ROWS_4
    enum: DOT_ROWS
    enum: DOT_COLUMNS
    enum: PANEL_VECTORS
    enum: VECTOR_BYTES
    enum: VECTOR_REGISTERS
    enum: LINEAR
    enum: RELU
    enum: LEAKY_RELU
    enum: SIGMOID
    enum: TANH
    enum: CACHE_LINE
    enum: HALVES
    enum: PERMUTES
    real* aligned(void* p) noexcept
    Py_ssize_t whole_vectors(Py_ssize_t count) noexcept
    vreal vload(const real* p) noexcept
    int once(Py_ssize_t n) noexcept
    const real* kept(const real* p) noexcept
    vreal vload_once(const real* p) noexcept
    vreal vload_halves(const real* p, const real* q) noexcept
    void vstore(real* p, vreal v) noexcept
    vreal vset(real s) noexcept
    vreal vload_partial(const real* p, int n) noexcept
    void vstore_partial(real* p, vreal v, int n) noexcept
    void vcopy(real* target, const real* source, Py_ssize_t count) noexcept
    vreal vload_strided(const real* p, Py_ssize_t stride, int n) noexcept
    void vtranspose(vreal* v) noexcept
    void vtranspose_block(const real* rows, Py_ssize_t pitch, real* target, Py_ssize_t step) noexcept
    void vtranspose_part(
        const real* rows, Py_ssize_t pitch, int count, int columns, real* target, Py_ssize_t step,
    ) noexcept
    vreal vload_padded(const real* p, int n, real rest) noexcept
    real vmax(vreal v) noexcept
    vreal vfirst(vreal v, int n) noexcept
    vreal vpermute(vreal a, vreal b, vint lanes) noexcept
    void vload_pairs(const real* p, int n, vreal* first, vreal* second) noexcept
    void vstore_in_turn(real* p, vreal first, vreal second, int n) noexcept
    void vstore_pairs(real* p, vreal first, vreal second, int n) noexcept
    vreal vmaximum(vreal a, vreal b) noexcept
    vreal vkeep(vint mask, vreal v) noexcept
    void vprefetch(const real* p, Py_ssize_t count) noexcept
    void vprefetch_line(const real* p) noexcept
    void vstore_strided(real* p, vreal v, Py_ssize_t stride, int n) noexcept
    vreal vload_some(const real* p, int n) noexcept
    void vstore_some(real* p, vreal v, int n) noexcept
    vreal vselect(vint mask, vreal yes, vreal no) noexcept
    vint vstays(vreal best, vreal value) noexcept
    vint vset_int(ireal s) noexcept
    vint vselect_int(vint mask, vint yes, vint no) noexcept
    vint vload_int(const ireal* p) noexcept
    void vstore_int(ireal* p, vint v) noexcept
    vint vload_bytes(const uint8_t* p, int n) noexcept
    void vstore_bytes(uint8_t* p, vint v, int n) noexcept
    vint vequal(vint a, vint b) noexcept
    real vsum(vreal v) noexcept
    double sum_of(const real* p, Py_ssize_t count) noexcept
    vreal vexp(vreal x) noexcept
    vreal vactivate(vreal x, int activation, real slope) noexcept
    vreal vactivate_backward(vreal grad, vreal y, int activation, real slope) noexcept
    void CHECK_BOUNDS(Py_ssize_t low, Py_ssize_t high, Py_ssize_t size) noexcept
