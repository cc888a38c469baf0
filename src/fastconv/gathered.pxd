"""The micro-kernel of convolution whose weights are read where they lie, whichever way that is.

Contract of `gathered` (lanes are outputs, or filters, or weights)

    c[i*c_row + j] = start + sum over p of a[place[p] + offset[i]] * b[p*vectors*LANES + j]

    i < rows, p < depth, j < vectors*LANES. `start` is init[i], or sums[i*sums_row + j] where init is NULL. b is packed:
    `vectors` vectors, then those of the next p. Each result is one chain over p in rising order, whatever `rows` and
    `vectors` are: the bits do not depend on them.

`rows` and `vectors` are literals at every call, as in `tile`; `run_gathered` turns run-time sizes into them.
"""

from fastconv.simd cimport LANES, kept, once, real, vload, vreal, vset, vstore
from fastconv.tile cimport tile_rows

cdef enum:
    GATHERED_ROWS = 9           # pointers that a tile can keep in registers


cdef inline void gathered(
    const int rows, const int vectors, Py_ssize_t depth, const real* a, const Py_ssize_t* place,
    const Py_ssize_t* offset, const real* b, const real* init, const real* sums, Py_ssize_t sums_row, real* c,
    Py_ssize_t c_row,
) noexcept nogil:
    cdef vreal acc[9][4]
    cdef vreal row[4]
    cdef const real* left[9]
    cdef real weight
    cdef Py_ssize_t p
    cdef int i, j
    for i in range(rows):
        left[i] = kept(a + offset[i])
        for j in range(vectors):
            acc[i][j] = vset(0)
    for p in range(depth):
        for j in range(vectors):
            row[j] = vload(b + (p * vectors + j) * LANES)
        for i in range(rows):
            weight = left[i][place[p]]
            for j in range(vectors):
                acc[i][j] = acc[i][j] + row[j] * weight
    if init != NULL:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + i * c_row + j * LANES, acc[i][j] + vset(init[i]))
    else:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + i * c_row + j * LANES, acc[i][j] + vload(sums + i * sums_row + j * LANES))


cdef inline void gathered_of(
    const int vectors, int rows, Py_ssize_t depth, const real* a, const Py_ssize_t* place, const Py_ssize_t* offset,
    const real* b, const real* init, const real* sums, Py_ssize_t sums_row, real* c, Py_ssize_t c_row,
) noexcept nogil:
    if rows == 1:
        gathered(1, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 2:
        gathered(2, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 3 and tile_rows(vectors) >= 3:
        gathered(3, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 4 and tile_rows(vectors) >= 4:
        gathered(4, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 5 and tile_rows(vectors) >= 5:
        gathered(5, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 6 and tile_rows(vectors) >= 6:
        gathered(6, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 7 and tile_rows(vectors) >= 7:
        gathered(7, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 8 and tile_rows(vectors) >= 8:
        gathered(8, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
    elif rows == 9 and tile_rows(vectors) >= 9:
        gathered(9, vectors, depth, a, place, offset, b, init, sums, sums_row, c, c_row)


cdef inline void run_gathered(
    int vectors, int rows, Py_ssize_t depth, const real* a, const Py_ssize_t* place, const Py_ssize_t* offset,
    const real* b, const real* init, const real* sums, Py_ssize_t sums_row, real* c, Py_ssize_t c_row,
) noexcept nogil:
    for _ in range(once(depth)):
        if vectors == 1:
            gathered_of(1, rows, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
        elif vectors == 2:
            gathered_of(2, rows, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
        elif vectors == 3:
            gathered_of(3, rows, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
        else:
            gathered_of(4, rows, depth, a, place, offset, b, init, sums, sums_row, c, c_row)
