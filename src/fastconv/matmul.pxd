"""The micro-kernel of matrix products whose left factor lies anywhere.

Contract of `panel`

    c[i, j]  = sum over p of a[i*a_row + p*a_step] * b[p*b_step + j]     where `add` is false
    c[i, j] +=                                                           where it is true

    i < rows, j < vectors*LANES, p < depth

`rows`, `vectors` and one of the two steps of `a` are literals at every call, so that the accumulators live in
registers and the rows of `a` are reached from a pointer for every three of them. Every output is one chain of
multiply-adds over p in rising order: its bits do not depend on `rows` and `vectors`.
"""

from fastconv.simd cimport LANES, PANEL_VECTORS, real, vload, vreal, vset, vstore
from fastconv.tile cimport tile_rows


cdef inline void panel(
    const int rows, const int vectors, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, bint add,
) noexcept nogil:
    cdef vreal acc[14][4]
    cdef vreal right[4]
    cdef const real* three[5]
    cdef real left
    cdef Py_ssize_t p = 0
    cdef int i, j, u
    cdef int unrolled = 2 if vectors <= 2 else 4
    for i in range(rows):
        for j in range(vectors):
            acc[i][j] = vset(0)
    for i in range((rows + 2) // 3):
        three[i] = a + 3 * i * a_row
    while p + unrolled <= depth:
        for u in range(unrolled):
            for j in range(vectors):
                right[j] = vload(b + u * b_step + j * LANES)
            for i in range(rows):
                left = three[i // 3][i % 3 * a_row + u * a_step]
                for j in range(vectors):
                    acc[i][j] = acc[i][j] + right[j] * left
        for i in range((rows + 2) // 3):
            three[i] += unrolled * a_step
        b += unrolled * b_step
        p += unrolled
    while p < depth:
        for j in range(vectors):
            right[j] = vload(b + j * LANES)
        for i in range(rows):
            left = three[i // 3][i % 3 * a_row]
            for j in range(vectors):
                acc[i][j] = acc[i][j] + right[j] * left
        for i in range((rows + 2) // 3):
            three[i] += a_step
        b += b_step
        p += 1
    if add:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + i * c_row + j * LANES, acc[i][j] + vload(c + i * c_row + j * LANES))
    else:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + i * c_row + j * LANES, acc[i][j])


cdef inline void panel_of(
    const int vectors, int rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, bint add,
) noexcept nogil:
    if rows == 1:
        panel(1, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 2:
        panel(2, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 3 and tile_rows(vectors) >= 3:
        panel(3, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 4 and tile_rows(vectors) >= 4:
        panel(4, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 5 and tile_rows(vectors) >= 5:
        panel(5, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 6 and tile_rows(vectors) >= 6:
        panel(6, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 7 and tile_rows(vectors) >= 7:
        panel(7, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 8 and tile_rows(vectors) >= 8:
        panel(8, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 9 and tile_rows(vectors) >= 9:
        panel(9, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 10 and tile_rows(vectors) >= 10:
        panel(10, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 11 and tile_rows(vectors) >= 11:
        panel(11, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 12 and tile_rows(vectors) >= 12:
        panel(12, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 13 and tile_rows(vectors) >= 13:
        panel(13, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)
    elif rows == 14 and tile_rows(vectors) >= 14:
        panel(14, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, add)


cdef inline void run_panels(
    int vectors, Py_ssize_t rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, bint add,
) noexcept nogil:
    """Any number of rows, in panels of even height. One of a_row and a_step is a literal 1."""
    cdef Py_ssize_t panels, step, i = 0
    cdef int count
    panels = (rows + tile_rows(vectors) - 1) // tile_rows(vectors)
    step = (rows + panels - 1) // panels
    while i < rows:
        count = <int>min(step, rows - i)
        if vectors == 1:
            panel_of(1, count, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add)
        elif vectors == 2:
            panel_of(2, count, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add)
        elif vectors == 3 and PANEL_VECTORS >= 3:
            panel_of(3, count, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add)
        elif vectors == 4 and PANEL_VECTORS >= 4:
            panel_of(4, count, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add)
        i += step
