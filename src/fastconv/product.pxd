"""The micro-kernel of matrix products: a block of rows times a panel of columns.

Contract of `product` (lanes are columns)

    c[i*c_row + j] =  sum over p of a[i*a_row + p*a_step] * b[p*b_step + j]     with `add` unset
    c[i*c_row + j] += the same                                                  with `add` set

    i < rows, p < depth, j < (vectors - 1)*LANES + last, 1 <= last <= LANES. `a` is read where it lies, in any
    layout: one element is broadcast for `vectors` multiply-adds. Of b whole vectors are read, of c only what is
    written. Each result is one chain over p in rising order, whatever `rows` and `vectors` are.

`rows` and `vectors` are literals at every call, as in `tile`; `run_product` turns run-time sizes, of at most the
literal `most` rows, into them. Rows of `a` are reached from a pointer for every three of them, and the loop takes two
or four p at a time: short sums spend less on it.
"""

from fastconv.simd cimport LANES, real, vload, vload_some, vreal, vset, vstore, vstore_some
from fastconv.tile cimport tile_rows

# Rows of `a` may lie a multiple of 4 KiB apart and then share one set of the first-level cache: its 12 ways hold so
# many rows and the panel's lines beside them. Who lays out `a` himself may take as many as a tile has.
cdef enum:
    ROWS_MAX = 10
    COLUMNS_MAX = 8             # vectors of columns, of a single row


cdef inline int product_rows(int vectors) noexcept nogil:
    """The most rows that a block may have beside so many vectors of columns: one beside more than four."""
    return min(<int>ROWS_MAX, tile_rows(vectors)) if vectors <= 4 else 1


cdef inline void product(
    const int rows, const int vectors, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, int last, bint add,
) noexcept nogil:
    cdef vreal acc[14][8]
    cdef vreal row[8]
    cdef vreal sums
    cdef const real* three[5]
    cdef real weight
    cdef Py_ssize_t p = 0
    cdef int i, j, u
    cdef int unrolled = 4 if vectors == 4 else 2
    for i in range(rows):
        for j in range(vectors):
            acc[i][j] = vset(0)
    for i in range((rows + 2) // 3):
        three[i] = a + 3 * i * a_row
    while p + unrolled <= depth:
        for u in range(unrolled):
            for j in range(vectors):
                row[j] = vload(b + u * b_step + j * LANES)
            for i in range(rows):
                weight = three[i // 3][i % 3 * a_row + u * a_step]
                for j in range(vectors):
                    acc[i][j] = acc[i][j] + row[j] * weight
        for i in range((rows + 2) // 3):
            three[i] += unrolled * a_step
        b += unrolled * b_step
        p += unrolled
    while p < depth:
        for j in range(vectors):
            row[j] = vload(b + j * LANES)
        for i in range(rows):
            weight = three[i // 3][i % 3 * a_row]
            for j in range(vectors):
                acc[i][j] = acc[i][j] + row[j] * weight
        for i in range((rows + 2) // 3):
            three[i] += a_step
        b += b_step
        p += 1
    for i in range(rows):
        for j in range(vectors - 1):
            sums = acc[i][j]
            if add:
                sums = sums + vload(c + j * LANES)
            vstore(c + j * LANES, sums)
        sums = acc[i][vectors - 1]
        if add:
            sums = sums + vload_some(c + (vectors - 1) * LANES, last)
        vstore_some(c + (vectors - 1) * LANES, sums, last)
        c += c_row


cdef inline void product_of(
    const int vectors, const int most, int rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, int last, bint add,
) noexcept nogil:
    if rows == 1:
        product(1, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 2:
        product(2, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 3 and tile_rows(vectors) >= 3:
        product(3, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 4 and tile_rows(vectors) >= 4:
        product(4, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 5 and tile_rows(vectors) >= 5:
        product(5, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 6 and tile_rows(vectors) >= 6:
        product(6, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 7 and tile_rows(vectors) >= 7:
        product(7, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 8 and tile_rows(vectors) >= 8:
        product(8, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 9 and tile_rows(vectors) >= 9:
        product(9, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 10 and tile_rows(vectors) >= 10:
        product(10, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 11 and min(most, tile_rows(vectors)) >= 11:
        product(11, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 12 and min(most, tile_rows(vectors)) >= 12:
        product(12, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 13 and min(most, tile_rows(vectors)) >= 13:
        product(13, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif rows == 14 and min(most, tile_rows(vectors)) >= 14:
        product(14, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)


cdef inline void run_product(
    int vectors, const int most, int rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, int last, bint add,
) noexcept nogil:
    if vectors == 1:
        product_of(1, most, rows, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 2:
        product_of(2, most, rows, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 3:
        product_of(3, most, rows, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 4:
        product_of(4, most, rows, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 5:
        product(1, 5, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 6:
        product(1, 6, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    elif vectors == 7:
        product(1, 7, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
    else:
        product(1, 8, depth, a, a_row, a_step, b, b_step, c, c_row, last, add)
