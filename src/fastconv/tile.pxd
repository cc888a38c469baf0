"""The two micro-kernels: the only code whose inner loop decides how fast the library is.

Contract of `tile` (lanes are outputs)

    c[i, j, l]  = init[i] + sum over p of a[p*rows + i] * b[offset[p] + place[j] + l]     where init is given
    c[i, j, l] +=           sum over p of a[p*rows + i] * b[offset[p] + place[j] + l]     where it is NULL

    i < rows, j < vectors, l < LANES, p < depth, and depth is at least 1. `a` is packed: `rows` weights, then the next
    p. `b` needs no alignment and no packing: `offset` (in elements) says where each p finds its data and `place`
    where each vector does, which makes convolution of any kernel, stride phase, dilation and group, and matrix
    products, one loop. With `half` the upper half of each vector comes from `pitch` elements further on: two short
    rows. The sums lie tile by tile: c[i, j, l] is c[(i*vectors + j)*LANES + l]. Each step asks for a line at `ahead`,
    `ahead_step` elements past the one before: memory that will soon be needed.
    Every output is one chain of multiply-adds over p in rising order, whatever `rows` and `vectors` are: the bits
    do not depend on them. A long sum is cut into calls of at most DEPTH, each with a chain of its own, so that
    rounding errors grow with DEPTH and not with the length of the sum.

Contract of `dots` (lanes are the sum)

    c[i, j] += sum over q of a[i*a_row + q] * b[offset[j] + q]

    i < rows, j < columns, q < length. One vector of partial sums per (i, j), its lanes added at the end in a fixed
    order: again the bits depend on the length alone. With `many` the sum goes over several such runs, images and
    rows within them, whose starts `Runs` gives; `length` is then a multiple of LANES.

`rows`, `vectors` and `columns` are literals at every call: the functions are inlined, the loops over the
accumulators unroll completely, and the accumulators live in registers. `run_tile` and `run_dots` are the
tables that turn run-time sizes into those literals.
"""

from fastconv.simd cimport (
    DOT_COLUMNS, DOT_ROWS, LANES, TILE_ROWS_1, TILE_ROWS_2, TILE_ROWS_3, TILE_ROWS_4,
    real, vload, vload_halves, vload_partial, vprefetch_line, vreal, vset, vstore, vsum,
)

# The deepest sum that one call of the tile runs over: its weights (rows * DEPTH) and the pixels they meet
# stay in the first-level cache.
cdef enum:
    DEPTH = 288
    VECTORS_MAX = 4


cdef inline void tile(
    const int rows, const int vectors, const bint half, Py_ssize_t depth, const real* a, const real* b,
    const Py_ssize_t* offset, const Py_ssize_t* place, Py_ssize_t pitch, real* c, const real* init,
    const real* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    cdef vreal acc[14][4]
    cdef vreal row[4]
    cdef const real* source
    cdef real weight
    cdef Py_ssize_t p = 0
    cdef int i, j
    for i in range(rows):
        for j in range(vectors):
            acc[i][j] = vset(0)
    while True:  # depth > 0: a loop that may not run at all would send the accumulators through memory
        source = b + offset[p]
        vprefetch_line(ahead)
        ahead += ahead_step
        for j in range(vectors):
            if half:
                row[j] = vload_halves(source + place[j], source + place[j] + pitch)
            else:
                row[j] = vload(source + place[j])
        for i in range(rows):
            weight = a[p * rows + i]
            for j in range(vectors):
                acc[i][j] = acc[i][j] + row[j] * weight
        p += 1
        if p >= depth:
            break
    if init != NULL:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + (i * vectors + j) * LANES, acc[i][j] + vset(init[i]))
    else:
        for i in range(rows):
            for j in range(vectors):
                vstore(c + (i * vectors + j) * LANES, acc[i][j] + vload(c + (i * vectors + j) * LANES))


cdef struct Runs:
    Py_ssize_t length
    Py_ssize_t rows
    Py_ssize_t a_row            # from one row's start to the next, in a and in b
    Py_ssize_t b_row
    Py_ssize_t images
    Py_ssize_t a_image
    Py_ssize_t b_image


cdef inline void dots(
    const int rows, const int columns, const bint many, const Runs* run, const real* a, Py_ssize_t a_row,
    const real* b, const Py_ssize_t* offset, real* c, Py_ssize_t c_row,
) noexcept nogil:
    cdef vreal acc[4][6]
    cdef vreal column[6]
    cdef vreal value
    cdef const real* left
    cdef const real* source[6]
    cdef Py_ssize_t q, n, r
    cdef int i, j, rest
    for j in range(columns):
        for i in range(rows):
            acc[i][j] = vset(0)
    if many:  # loops that run at least once: the accumulators never go through memory
        n = 0
        while True:
            r = 0
            while True:
                left = a + n * run.a_image + r * run.a_row
                for j in range(columns):
                    source[j] = b + offset[j] + n * run.b_image + r * run.b_row
                q = 0
                while True:
                    for j in range(columns):
                        column[j] = vload(source[j] + q)
                    for i in range(rows):
                        value = vload(left + i * a_row + q)
                        for j in range(columns):
                            acc[i][j] = acc[i][j] + column[j] * value
                    q += LANES
                    if q >= run.length:
                        break
                r += 1
                if r >= run.rows:
                    break
            n += 1
            if n >= run.images:
                break
    else:
        for j in range(columns):
            source[j] = b + offset[j]
        q = 0
        while q + LANES <= run.length:
            for j in range(columns):
                column[j] = vload(source[j] + q)
            for i in range(rows):
                value = vload(a + i * a_row + q)
                for j in range(columns):
                    acc[i][j] = acc[i][j] + column[j] * value
            q += LANES
        rest = <int>(run.length - q)
        if rest:
            for j in range(columns):
                column[j] = vload_partial(source[j] + q, rest)
            for i in range(rows):
                value = vload_partial(a + i * a_row + q, rest)
                for j in range(columns):
                    acc[i][j] = acc[i][j] + column[j] * value
    for i in range(rows):
        for j in range(columns):
            c[i * c_row + j] += vsum(acc[i][j])


cdef inline int tile_rows(int vectors) noexcept nogil:
    """The most rows a tile of so many vectors may have."""
    if vectors == 1:
        return TILE_ROWS_1
    if vectors == 2:
        return TILE_ROWS_2
    if vectors == 3:
        return TILE_ROWS_3
    return TILE_ROWS_4


cdef inline void choose_tile(Py_ssize_t outputs, Py_ssize_t pixels, int* rows, int* vectors) noexcept nogil:
    """The tile that covers `outputs` x `pixels` vectors in the fewest cycles.

    A tile costs, per step of its sum, the largest of its multiply-adds (two a cycle), its loads (two a cycle, of
    which a vector that crosses a cache line takes both) and the latency of four cycles, or a little more, that its
    accumulators must hide; and a cycle of what surrounds the sum.
    """
    cdef Py_ssize_t best = 0, cost, blocks
    cdef int v, r
    for v in range(1, VECTORS_MAX + 1):
        blocks = (outputs + tile_rows(v) - 1) // tile_rows(v)
        r = <int>((outputs + blocks - 1) // blocks)
        cost = max(max(r * v, r + 2 * v + 2), 10) + 2
        cost *= blocks * ((pixels + v - 1) // v)
        if best == 0 or cost < best:
            best = cost
            rows[0] = r
            vectors[0] = v


cdef inline void tile_of(
    const int vectors, const bint half, int rows, Py_ssize_t depth, const real* a, const real* b,
    const Py_ssize_t* offset, const Py_ssize_t* place, Py_ssize_t pitch, real* c, const real* init,
    const real* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    if rows == 1:
        tile(1, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 2:
        tile(2, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 3 and tile_rows(vectors) >= 3:
        tile(3, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 4 and tile_rows(vectors) >= 4:
        tile(4, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 5 and tile_rows(vectors) >= 5:
        tile(5, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 6 and tile_rows(vectors) >= 6:
        tile(6, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 7 and tile_rows(vectors) >= 7:
        tile(7, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 8 and tile_rows(vectors) >= 8:
        tile(8, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 9 and tile_rows(vectors) >= 9:
        tile(9, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 10 and tile_rows(vectors) >= 10:
        tile(10, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 11 and tile_rows(vectors) >= 11:
        tile(11, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 12 and tile_rows(vectors) >= 12:
        tile(12, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 13 and tile_rows(vectors) >= 13:
        tile(13, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif rows == 14 and tile_rows(vectors) >= 14:
        tile(14, vectors, half, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)


cdef inline void run_tile(
    int vectors, const bint half, int rows, Py_ssize_t depth, const real* a, const real* b,
    const Py_ssize_t* offset, const Py_ssize_t* place, Py_ssize_t pitch, real* c, const real* init,
    const real* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    if vectors == 1:
        tile_of(1, half, rows, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif vectors == 2:
        tile_of(2, half, rows, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    elif vectors == 3:
        tile_of(3, half, rows, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)
    else:
        tile_of(4, half, rows, depth, a, b, offset, place, pitch, c, init, ahead, ahead_step)


cdef inline void dots_of(
    const int columns, const bint many, int rows, const Runs* run, const real* a, Py_ssize_t a_row,
    const real* b, const Py_ssize_t* offset, real* c, Py_ssize_t c_row,
) noexcept nogil:
    if rows == 1:
        dots(1, columns, many, run, a, a_row, b, offset, c, c_row)
    elif rows == 2:
        dots(2, columns, many, run, a, a_row, b, offset, c, c_row)
    elif rows == 3:
        dots(3, columns, many, run, a, a_row, b, offset, c, c_row)
    elif rows == 4 and DOT_ROWS >= 4:
        dots(4, columns, many, run, a, a_row, b, offset, c, c_row)


cdef inline void run_dots(
    const bint many, int columns, int rows, const Runs* run, const real* a, Py_ssize_t a_row,
    const real* b, const Py_ssize_t* offset, real* c, Py_ssize_t c_row,
) noexcept nogil:
    if columns == 1:
        dots_of(1, many, rows, run, a, a_row, b, offset, c, c_row)
    elif columns == 2:
        dots_of(2, many, rows, run, a, a_row, b, offset, c, c_row)
    elif columns == 3:
        dots_of(3, many, rows, run, a, a_row, b, offset, c, c_row)
    elif columns == 4:
        dots_of(4, many, rows, run, a, a_row, b, offset, c, c_row)
    elif columns == 5 and DOT_COLUMNS >= 5:
        dots_of(5, many, rows, run, a, a_row, b, offset, c, c_row)
    elif columns == 6 and DOT_COLUMNS >= 6:
        dots_of(6, many, rows, run, a, a_row, b, offset, c, c_row)
