"""Two-dimensional pooling: maximum, average and global average, each forward and backward.

A task is one plane (one channel of one image), pooled a vector of neighbouring outputs at a time. The rows of a
window are combined first, into a line with edges of -inf or zero where windows leave the image; then the columns
of the line, by strided loads. Windows of 2 x 2 that do not overlap, those of most networks, have a way of their
own, in which several short rows share a vector. The backward pass of the maximum finds the winners again from x,
unless the forward pass kept their taps, a byte for each output: those of 2 x 2 alone.
Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.simd cimport (
    CACHE_LINE, LANES, PERMUTES, aligned, ireal, real, sum_of, vcopy, vequal, vint, vkeep, vload, vload_bytes,
    vload_int, vload_pairs, vload_some, vload_strided, vmaximum, vpermute, vreal, vselect, vselect_int, vset, vset_int,
    vstays, vstore, vstore_bytes, vstore_int, vstore_pairs, vstore_some, whole_vectors,
)

cnp.import_array()

cdef enum:
    WORK_PER_PIXEL = 32         # in multiply-adds, for the choice of a team
    WORK_PER_TERM = 8           # of a mean

cdef Py_ssize_t WIDEST = 0x7FFFFFFFFFFFFFFF

cdef struct Window:
    Py_ssize_t planes           # images x channels
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t out_height
    Py_ssize_t out_width
    Py_ssize_t kernel_h
    Py_ssize_t kernel_w
    Py_ssize_t stride_h
    Py_ssize_t stride_w
    Py_ssize_t top
    Py_ssize_t left
    Py_ssize_t bottom
    Py_ssize_t right
    Py_ssize_t dilation_h
    Py_ssize_t dilation_w
    Py_ssize_t first_tap        # columns of taps that reach the image for some output: [first, last)
    Py_ssize_t last_tap
    Py_ssize_t first_column     # input column of the first of them, for output column 0
    Py_ssize_t row_size         # input columns from there on that a row of outputs reads
    bint padded                 # whether those leave the image
    bint count_include_pad
    Py_ssize_t divisor          # 0: the number of taps


cdef Window window_of(cnp.ndarray x, cnp.ndarray y, tuple kernel, tuple stride, tuple padding, tuple dilation):
    cdef Window g
    g.planes = cnp.PyArray_DIM(x, 0) * cnp.PyArray_DIM(x, 1)
    g.height = cnp.PyArray_DIM(x, 2)
    g.width = cnp.PyArray_DIM(x, 3)
    g.out_height = cnp.PyArray_DIM(y, 2)
    g.out_width = cnp.PyArray_DIM(y, 3)
    g.kernel_h, g.kernel_w = kernel
    g.stride_h, g.stride_w = stride
    (g.top, g.bottom), (g.left, g.right) = padding
    g.dilation_h, g.dilation_w = dilation
    g.first_tap = max(0, (g.left - (g.out_width - 1) * g.stride_w + g.dilation_w - 1) // g.dilation_w)
    g.last_tap = max(g.first_tap, min(g.kernel_w, (g.width - 1 + g.left) // g.dilation_w + 1))
    g.first_column = g.first_tap * g.dilation_w - g.left
    g.row_size = (g.out_width - 1) * g.stride_w + max(0, g.last_tap - g.first_tap - 1) * g.dilation_w + 1
    g.padded = g.first_column < 0 or g.first_column + g.row_size > g.width
    g.count_include_pad = True
    g.divisor = 0
    return g


cdef inline void taps_inside(const Window* g, Py_ssize_t oh, Py_ssize_t* first, Py_ssize_t* last) noexcept nogil:
    """The rows of taps [first, last) that lie in the image for output row oh."""
    cdef Py_ssize_t row = oh * g.stride_h - g.top
    first[0] = 0
    last[0] = g.kernel_h
    if row < 0:
        first[0] = (-row + g.dilation_h - 1) // g.dilation_h
    if row + (g.kernel_h - 1) * g.dilation_h >= g.height:
        last[0] = (g.height - 1 - row) // g.dilation_h + 1 if row < g.height else 0


cdef struct Rows:
    # The rows of x that one row of outputs reads, from its first tap inside the image on.
    const real* first
    Py_ssize_t step             # from one row of taps to the next
    Py_ssize_t count
    Py_ssize_t input_row        # of the first


cdef inline Rows rows_of(const Window* g, const real* x, Py_ssize_t oh, real edge, real* buffer) noexcept nogil:
    """The rows as they lie, or copied between edges."""
    cdef Rows rows
    cdef Py_ssize_t i, r, last, start, end
    cdef const real* source
    taps_inside(g, oh, &i, &last)
    rows.count = max(0, last - i)
    rows.input_row = oh * g.stride_h + i * g.dilation_h - g.top
    rows.first = x + rows.input_row * g.width + g.first_column
    rows.step = g.dilation_h * g.width
    if g.padded:
        start = max(0, -g.first_column)
        end = max(start, min(g.row_size, g.width - g.first_column))
        source = rows.first
        for r in range(rows.count):
            for i in range(start):
                buffer[r * g.row_size + i] = edge
            vcopy(buffer + r * g.row_size + start, source + start, end - start)
            for i in range(end, g.row_size):
                buffer[r * g.row_size + i] = edge
            source += rows.step
        rows.first = buffer
        rows.step = g.row_size
    return rows


cdef inline Py_ssize_t buffer_size(const Window* g) noexcept nogil:
    return whole_vectors(min(g.kernel_h, g.height) * g.row_size + g.stride_w * LANES) if g.padded else 0


cdef inline vreal combined(const bint largest, vreal a, vreal b) noexcept nogil:
    return vmaximum(a, b) if largest else a + b


cdef inline Py_ssize_t line_size(const Window* g) noexcept nogil:
    """Elements of a line, with whole vectors of outputs to be loaded from it."""
    return whole_vectors(g.row_size + g.stride_w * LANES)


cdef inline void clear_line(const Window* g, const bint largest, real* line) noexcept nogil:
    """The edges of a line, which all rows share."""
    cdef Py_ssize_t i
    for i in range(line_size(g)):
        line[i] = -INFINITY if largest else 0


cdef inline void combine_rows(
    const Window* g, const real* x, Py_ssize_t oh, const bint largest, real* line,
) noexcept nogil:
    """The line of one row of outputs: each of its columns combined over the rows of taps in the image."""
    cdef Py_ssize_t i = max(0, -g.first_column), end = max(i, min(g.row_size, g.width - g.first_column))
    cdef Py_ssize_t first, last, step = g.dilation_h * g.width
    cdef const real* source
    cdef vreal value
    cdef int count
    taps_inside(g, oh, &first, &last)
    x += (oh * g.stride_h + first * g.dilation_h - g.top) * g.width + g.first_column
    while i < end:
        count = <int>min(<Py_ssize_t>LANES, end - i)
        source = x + i
        value = vset(-INFINITY if largest else 0)
        if count == LANES:
            for _ in range(first, last):
                value = combined(largest, value, vload(source))
                source += step
            vstore(line + i, value)
        else:
            for _ in range(first, last):
                value = combined(largest, value, vload_some(source, count))
                source += step
            vstore_some(line + i, value, count)
        i += LANES


cdef inline vreal combine_columns(
    const Window* g, const real* line, Py_ssize_t ow, const bint largest,
) noexcept nogil:
    """LANES outputs from `ow` on; of those past the last nothing is known."""
    cdef Py_ssize_t s
    cdef vreal value
    line += ow * g.stride_w
    value = vload_strided(line, g.stride_w, LANES)
    for s in range(1, g.last_tap - g.first_tap):
        value = combined(largest, value, vload_strided(line + s * g.dilation_w, g.stride_w, LANES))
    return value


# ---- windows of 2 x 2 ---------------------------------------------------------------------------------

cdef struct Pairs:
    # Rows of outputs that share a vector, where images are narrow; then their inputs are one run of memory.
    Py_ssize_t rows
    # With more than one, from two vectors of columns combined: the upper and the lower row of each window ...
    vint upper
    vint lower
    # ... and from those back.
    vint low
    vint high


cdef inline bint apart(const Window* g) noexcept nogil:
    """Whether windows are 2 x 2, side by side and inside the image."""
    return (
        g.kernel_h == 2 and g.kernel_w == 2 and g.stride_h == 2 and g.stride_w == 2 and g.top == 0 and g.left == 0
        and g.dilation_h == 1 and g.dilation_w == 1 and 2 * g.out_height <= g.height and 2 * g.out_width <= g.width
    )


cdef inline Pairs pairs_of(const Window* g) noexcept nogil:
    cdef Pairs pairs
    cdef ireal[2 * LANES] upper
    cdef ireal[2 * LANES] spread
    cdef Py_ssize_t i, row, width = g.out_width
    pairs.rows = 1
    if PERMUTES and g.width == 2 * width and 2 * width <= LANES:
        pairs.rows = LANES // width
    for i in range(2 * LANES):
        row = i // width
        upper[i] = <ireal>(i + row * width) % (2 * LANES)
        spread[i] = <ireal>(row // 2 * width + i % width + row % 2 * LANES)
    pairs.upper = vload_int(&upper[0])
    pairs.lower = pairs.upper + vset_int(<ireal>width)
    pairs.low = vload_int(&spread[0])
    pairs.high = vload_int(&spread[LANES])
    return pairs


cdef inline int after(Py_ssize_t count, Py_ssize_t before) noexcept nogil:
    """Of `count` lanes those in the vector that starts at `before`."""
    return <int>max(<Py_ssize_t>0, min(<Py_ssize_t>LANES, count - before))


cdef inline vint winning_tap(vreal a, vreal b, vreal c, vreal d) noexcept nogil:
    """Which of the four inputs of a window is the first of the largest."""
    cdef vint first = vstays(a, b), third = vstays(c, d)
    return vselect_int(
        vstays(vselect(first, a, b), vselect(third, c, d)),
        vselect_int(first, vset_int(0), vset_int(1)), vselect_int(third, vset_int(2), vset_int(3)),
    )


cdef inline void combine_pairs(
    const Window* g, const Pairs* pairs, const real* x, real* y, uint8_t* taps, const bint largest, real divisor,
) noexcept nogil:
    """y of one plane, and which tap it is from where `taps` is given."""
    cdef Py_ssize_t oh = 0, ow, count
    cdef vreal a, b, c, d, first, second
    while oh < g.out_height:
        if pairs.rows > 1:
            count = min(pairs.rows, g.out_height - oh) * g.out_width
            vload_pairs(x, after(2 * count, 0), &a, &b)
            vload_pairs(x + 2 * LANES, after(2 * count, LANES), &c, &d)
            first = combined(largest, a, b)
            second = combined(largest, c, d)
            first = combined(largest, vpermute(first, second, pairs.upper), vpermute(first, second, pairs.lower))
            vstore_some(y, first if largest else first / vset(divisor), <int>count)
            if taps != NULL:
                vstore_bytes(
                    taps,
                    winning_tap(
                        vpermute(a, c, pairs.upper), vpermute(b, d, pairs.upper),
                        vpermute(a, c, pairs.lower), vpermute(b, d, pairs.lower),
                    ),
                    <int>count,
                )
                taps += count
            x += 4 * count
            y += count
            oh += pairs.rows
        else:
            ow = 0
            while ow < g.out_width:
                vload_pairs(x + 2 * ow, after(g.out_width, ow), &a, &b)
                vload_pairs(x + 2 * ow + g.width, after(g.out_width, ow), &c, &d)
                first = combined(largest, combined(largest, a, b), combined(largest, c, d))
                vstore_some(y + ow, first if largest else first / vset(divisor), after(g.out_width, ow))
                if taps != NULL:
                    vstore_bytes(taps + ow, winning_tap(a, b, c, d), after(g.out_width, ow))
                ow += LANES
            x += 2 * g.width
            y += g.out_width
            if taps != NULL:
                taps += g.out_width
            oh += 1


cdef inline void split_window(vreal* a, vreal* b, vreal* c, vreal* d, vreal grad, vint tap) noexcept nogil:
    """The gradients of the four inputs of a window: all of it to that tap."""
    a[0] = vkeep(vequal(tap, vset_int(0)), grad)
    b[0] = vkeep(vequal(tap, vset_int(1)), grad)
    c[0] = vkeep(vequal(tap, vset_int(2)), grad)
    d[0] = vkeep(vequal(tap, vset_int(3)), grad)


cdef inline void spread_pairs(
    const Window* g, const Pairs* pairs, const real* x, const uint8_t* taps, const real* grad_y, real* grad_x,
    const bint largest, real divisor,
) noexcept nogil:
    """grad_x of one plane; which tap won is found in `taps`, or in x where that is NULL."""
    cdef Py_ssize_t oh = 0, ow, count
    cdef vreal a, b, c, d, grad
    cdef vreal first, second
    cdef vint tap
    cdef int rest
    while oh < g.out_height:
        if pairs.rows > 1:
            count = min(pairs.rows, g.out_height - oh) * g.out_width
            grad = vload_some(grad_y, <int>count)
            if largest:
                if taps != NULL:
                    tap = vload_bytes(taps, <int>count)
                    taps += count
                else:
                    vload_pairs(x, after(2 * count, 0), &first, &second)
                    vload_pairs(x + 2 * LANES, after(2 * count, LANES), &c, &d)
                    tap = winning_tap(
                        vpermute(first, c, pairs.upper), vpermute(second, d, pairs.upper),
                        vpermute(first, c, pairs.lower), vpermute(second, d, pairs.lower),
                    )
                    x += 4 * count
                split_window(&a, &b, &c, &d, grad, tap)
            else:
                a = b = c = d = grad / vset(divisor)
            vstore_pairs(grad_x, vpermute(a, c, pairs.low), vpermute(b, d, pairs.low), after(2 * count, 0))
            if 2 * count > LANES:
                vstore_pairs(
                    grad_x + 2 * LANES, vpermute(a, c, pairs.high), vpermute(b, d, pairs.high), after(2 * count, LANES)
                )
            grad_x += 4 * count
            grad_y += count
            oh += pairs.rows
        else:
            ow = 0
            while ow < g.out_width:
                rest = after(g.out_width, ow)
                grad = vload_some(grad_y + ow, rest)
                if largest:
                    if taps != NULL:
                        tap = vload_bytes(taps + ow, rest)
                    else:
                        vload_pairs(x + 2 * ow, rest, &a, &b)
                        vload_pairs(x + 2 * ow + g.width, rest, &c, &d)
                        tap = winning_tap(a, b, c, d)
                    split_window(&a, &b, &c, &d, grad, tap)
                else:
                    a = b = c = d = grad / vset(divisor)
                vstore_pairs(grad_x + 2 * ow, a, b, rest)
                vstore_pairs(grad_x + 2 * ow + g.width, c, d, rest)
                ow += LANES
            for ow in range(2 * g.out_width, g.width):
                grad_x[ow] = grad_x[g.width + ow] = 0
            x += 2 * g.width
            if taps != NULL:
                taps += g.out_width
            grad_x += 2 * g.width
            grad_y += g.out_width
            oh += 1
    memset(grad_x, 0, (g.height - 2 * g.out_height) * g.width * sizeof(real))


# ---- maximum ------------------------------------------------------------------------------------------

cdef void winner_row(
    const Window* g, const real* x, Py_ssize_t oh, real* buffer, const ireal* start, ireal* winner,
) noexcept nogil:
    """The place of each maximum of one row: row*width + column, counted from its window's own first column.

    `start` is the column of each window's first tap inside the image, which wins where all are -inf.
    """
    cdef Rows rows = rows_of(g, x, oh, -INFINITY, buffer)
    cdef Py_ssize_t r, s, i = 0
    cdef vreal best, value
    cdef vint stays, place
    cdef int count
    while i < g.out_width:
        count = LANES if g.padded else <int>min(<Py_ssize_t>LANES, g.out_width - i)  # a copy has whole vectors
        best = vset(-INFINITY)
        place = vset_int(<ireal>(rows.input_row * g.width)) + vload_int(start + i)
        for r in range(rows.count):
            for s in range(g.last_tap - g.first_tap):
                value = vload_strided(rows.first + r * rows.step + i * g.stride_w + s * g.dilation_w, g.stride_w, count)
                stays = vstays(best, value)
                best = vselect(stays, best, value)
                place = vselect_int(
                    stays, place, vset_int(<ireal>((rows.input_row + r * g.dilation_h) * g.width + s * g.dilation_w))
                )
        vstore_int(winner + i, place)
        i += LANES
    if g.padded or rows.count == 0:
        for i in range(g.out_width):
            if start[i] < 0 or rows.count == 0:
                winner[i] = -1


cdef inline Py_ssize_t place(const Window* g, Py_ssize_t ow, ireal winner) noexcept nogil:
    """The flat index, row*width + column, of a winner."""
    return winner + g.first_column + ow * g.stride_w


cdef struct MaxMemory:
    ireal* start                # of each output column, shared by all threads
    ireal* winner               # one thread's row
    real* line
    real* buffer                # one thread's padded rows


cdef void max_plane(
    const Window* g, const real* x, real* y, int64_t* indices, uint8_t* taps, const Pairs* pairs, MaxMemory m,
) noexcept nogil:
    cdef Py_ssize_t oh, ow
    if apart(g):
        combine_pairs(g, pairs, x, y, taps, True, 0)
    else:
        for oh in range(g.out_height):
            combine_rows(g, x, oh, True, m.line)
            ow = 0
            while ow < g.out_width:
                vstore_some(y + ow, combine_columns(g, m.line, ow, True), after(g.out_width, ow))
                ow += LANES
            y += g.out_width
    if indices != NULL:
        for oh in range(g.out_height):
            winner_row(g, x, oh, m.buffer, m.start, m.winner)
            for ow in range(g.out_width):
                indices[oh * g.out_width + ow] = -1 if m.winner[ow] < 0 else place(g, ow, m.winner[ow])


cdef void max_plane_backward(
    const Window* g, const real* x, const uint8_t* taps, const real* grad_y, real* grad_x, const Pairs* pairs,
    MaxMemory m,
) noexcept nogil:
    # Locals: the compiler must reload what a store through grad_x could have changed.
    cdef Py_ssize_t oh, ow, width = g.out_width, stride = g.stride_w
    cdef real* target = grad_x + g.first_column
    cdef const ireal* winner = m.winner
    if apart(g):
        spread_pairs(g, pairs, x, taps, grad_y, grad_x, True, 0)
        return
    memset(grad_x, 0, g.height * g.width * sizeof(real))
    for oh in range(g.out_height):
        winner_row(g, x, oh, m.buffer, m.start, m.winner)
        for ow in range(width):
            if winner[ow] >= 0:
                target[winner[ow] + ow * stride] += grad_y[ow]
        grad_y += width


cdef inline Py_ssize_t thread_size(const Window* g) noexcept nogil:
    """Elements that each thread needs."""
    return whole_vectors(g.out_width) + line_size(g) + buffer_size(g)


cdef inline MaxMemory memory_of(const Window* g, void* memory, int thread) noexcept nogil:
    cdef MaxMemory m
    cdef Py_ssize_t row = whole_vectors(g.out_width)
    m.start = <ireal*>aligned(memory)
    m.winner = <ireal*>(aligned(memory) + row + thread * thread_size(g))
    m.line = <real*>m.winner + row
    m.buffer = m.line + line_size(g)
    return m


cdef void* max_memory(const Window* g, int team) except NULL:
    """Memory of a team, with the table `start` filled in."""
    cdef Py_ssize_t row = whole_vectors(g.out_width), ow, column, tap
    cdef int i
    cdef void* memory
    cdef ireal* start
    if g.height * g.width + g.row_size > WIDEST >> (0 if sizeof(ireal) == 8 else 32):
        raise ValueError(
            f"x: expected images of fewer than 2**31 pixels; received {g.height} x {g.width}: "
            "use float64, whose indices are wider"
        )
    memory = malloc((row + team * thread_size(g)) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        raise MemoryError("max_pool2d: no memory for the rows of a window")
    for i in range(team):
        clear_line(g, True, memory_of(g, memory, i).line)
    start = <ireal*>aligned(memory)
    memset(start, 0, row * sizeof(ireal))
    for ow in range(g.out_width):
        column = ow * g.stride_w - g.left
        tap = 0 if column >= 0 else (-column + g.dilation_w - 1) // g.dilation_w
        start[ow] = -1
        if tap < g.kernel_w and column + tap * g.dilation_w < g.width:
            start[ow] = <ireal>((tap - g.first_tap) * g.dilation_w)
    return memory


def max_forward(
    cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray indices, cnp.ndarray taps,
    tuple kernel, tuple stride, tuple padding, tuple dilation, int threads,
):
    """y, the largest value of each window; its flat index where `indices` (int64) is given.

    Of windows of 2 x 2 that lie apart also its tap, 0 to 3, where `taps` (uint8) is given.
    """
    cdef Window g = window_of(x, y, kernel, stride, padding, dilation)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef int64_t* index_data = <int64_t*>cnp.PyArray_DATA(indices) if indices is not None else NULL
    cdef uint8_t* tap_data = <uint8_t*>cnp.PyArray_DATA(taps) if taps is not None else NULL
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef void* memory = max_memory(&g, team)
    cdef Pairs pairs = pairs_of(&g)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                max_plane(
                    &g, x_data + plane * size, y_data + plane * out_size,
                    index_data + plane * out_size if index_data != NULL else NULL,
                    tap_data + plane * out_size if tap_data != NULL else NULL,
                    &pairs, memory_of(&g, memory, 0),
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                max_plane(
                    &g, x_data + plane * size, y_data + plane * out_size,
                    index_data + plane * out_size if index_data != NULL else NULL,
                    tap_data + plane * out_size if tap_data != NULL else NULL,
                    &pairs, memory_of(&g, memory, threadid()),
                )
        free(memory)


def max_backward(
    cnp.ndarray grad_y not None, cnp.ndarray x, cnp.ndarray taps, cnp.ndarray grad_x not None,
    tuple kernel, tuple stride, tuple padding, tuple dilation, int threads,
):
    """grad_x: each grad_y goes to the pixel that won its window, found in `x` or told by `taps`."""
    cdef Window g = window_of(grad_x, grad_y, kernel, stride, padding, dilation)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x) if x is not None else NULL
    cdef const uint8_t* tap_data = <const uint8_t*>cnp.PyArray_DATA(taps) if taps is not None else NULL
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef void* memory = max_memory(&g, team)
    cdef Pairs pairs = pairs_of(&g)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                max_plane_backward(
                    &g, x_data + plane * size if x_data != NULL else NULL,
                    tap_data + plane * out_size if tap_data != NULL else NULL,
                    grad_y_data + plane * out_size, grad_x_data + plane * size,
                    &pairs, memory_of(&g, memory, 0),
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                max_plane_backward(
                    &g, x_data + plane * size if x_data != NULL else NULL,
                    tap_data + plane * out_size if tap_data != NULL else NULL,
                    grad_y_data + plane * out_size, grad_x_data + plane * size,
                    &pairs, memory_of(&g, memory, threadid()),
                )
        free(memory)


# ---- average ------------------------------------------------------------------------------------------

cdef inline Py_ssize_t taps_counted(
    const Window* g, Py_ssize_t start, Py_ssize_t kernel, Py_ssize_t size, Py_ssize_t after,
) noexcept nogil:
    """The taps, along one axis, that the mean of a window starting at `start` counts."""
    if g.count_include_pad:
        return min(start + kernel, size + after) - start
    return max(1, min(start + kernel, size) - max(start, 0))


cdef inline real divisor_of_row(const Window* g, Py_ssize_t oh) noexcept nogil:
    if g.divisor != 0:
        return <real>g.divisor
    return <real>taps_counted(g, oh * g.stride_h - g.top, g.kernel_h, g.height, g.bottom)


cdef struct AverageMemory:
    real* counts                # the taps that each output column counts, shared by all threads
    real* line                  # one thread's


cdef void average_plane(
    const Window* g, const real* x, real* y, const Pairs* pairs, AverageMemory m,
) noexcept nogil:
    cdef Py_ssize_t oh, ow
    cdef vreal divisor
    cdef int count
    if apart(g):
        combine_pairs(g, pairs, x, y, NULL, False, divisor_of_row(g, 0) * m.counts[0])
        return
    for oh in range(g.out_height):
        combine_rows(g, x, oh, False, m.line)
        divisor = vset(divisor_of_row(g, oh))
        ow = 0
        while ow < g.out_width:
            count = after(g.out_width, ow)
            vstore_some(
                y + ow, combine_columns(g, m.line, ow, False) / (divisor * vload(m.counts + ow)), count
            )
            ow += LANES
        y += g.out_width


cdef void average_plane_backward(
    const Window* g, const real* grad_y, real* grad_x, const Pairs* pairs, AverageMemory m,
) noexcept nogil:
    """Each row of outputs is spread over the columns of a line, and the line over the rows of its windows."""
    cdef Py_ssize_t oh, ow, r, s, first, last, i, low = max(0, -g.first_column)
    cdef Py_ssize_t high = max(low, min(g.row_size, g.width - g.first_column))
    cdef real share, divisor
    cdef real* target
    cdef int count
    if apart(g):
        spread_pairs(g, pairs, NULL, NULL, grad_y, grad_x, False, divisor_of_row(g, 0) * m.counts[0])
        return
    memset(grad_x, 0, g.height * g.width * sizeof(real))
    for oh in range(g.out_height):
        taps_inside(g, oh, &first, &last)
        divisor = divisor_of_row(g, oh)
        memset(m.line, 0, g.row_size * sizeof(real))
        for ow in range(g.out_width):
            share = grad_y[ow] / (divisor * m.counts[ow])
            target = m.line + ow * g.stride_w
            for s in range(g.last_tap - g.first_tap):
                target[s] += share
        for r in range(first, last):
            target = grad_x + (oh * g.stride_h + r - g.top) * g.width + g.first_column
            i = low
            while i < high:
                count = after(high, i)
                vstore_some(target + i, vload_some(target + i, count) + vload_some(m.line + i, count), count)
                i += LANES
        grad_y += g.out_width


cdef inline AverageMemory average_memory_of(const Window* g, real* memory, int thread) noexcept nogil:
    return AverageMemory(memory, memory + whole_vectors(g.out_width) + thread * line_size(g))


cdef real* average_memory(const Window* g, int team) except NULL:
    """The memory of a team, with the table of counts filled in."""
    cdef real* counts = <real*>malloc((whole_vectors(g.out_width) + team * line_size(g)) * sizeof(real))
    cdef Py_ssize_t ow
    cdef int i
    if counts == NULL:
        raise MemoryError("avg_pool2d: no memory for the rows of one thread")
    for i in range(team):
        clear_line(g, False, average_memory_of(g, counts, i).line)
    for ow in range(whole_vectors(g.out_width)):
        counts[ow] = 1
        if g.divisor == 0 and ow < g.out_width:
            counts[ow] = <real>taps_counted(g, ow * g.stride_w - g.left, g.kernel_w, g.width, g.right)
    return counts


def average_forward(
    cnp.ndarray x not None, cnp.ndarray y not None, tuple kernel, tuple stride, tuple padding,
    bint count_include_pad, Py_ssize_t divisor, int threads,
):
    """y, the mean of each window."""
    cdef Window g = window_of(x, y, kernel, stride, padding, (1, 1))
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef real* memory
    cdef Pairs pairs = pairs_of(&g)
    g.count_include_pad = count_include_pad
    g.divisor = divisor
    memory = average_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                average_plane(
                    &g, x_data + plane * size, y_data + plane * out_size, &pairs, average_memory_of(&g, memory, 0)
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                average_plane(
                    &g, x_data + plane * size, y_data + plane * out_size, &pairs,
                    average_memory_of(&g, memory, threadid()),
                )
        free(memory)


def average_backward(
    cnp.ndarray grad_y not None, cnp.ndarray grad_x not None, tuple kernel, tuple stride, tuple padding,
    bint count_include_pad, Py_ssize_t divisor, int threads,
):
    """grad_x: each grad_y is shared equally among the pixels of its window."""
    cdef Window g = window_of(grad_x, grad_y, kernel, stride, padding, (1, 1))
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef real* memory
    cdef Pairs pairs = pairs_of(&g)
    g.count_include_pad = count_include_pad
    g.divisor = divisor
    memory = average_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                average_plane_backward(
                    &g, grad_y_data + plane * out_size, grad_x_data + plane * size, &pairs,
                    average_memory_of(&g, memory, 0),
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                average_plane_backward(
                    &g, grad_y_data + plane * out_size, grad_x_data + plane * size, &pairs,
                    average_memory_of(&g, memory, threadid()),
                )
        free(memory)


# ---- global average -----------------------------------------------------------------------------------

cdef void fill(real value, Py_ssize_t size, real* target) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        target[i] = value


def global_average_forward(cnp.ndarray x not None, cnp.ndarray y not None, int threads):
    """y (N, C, 1, 1), the mean of each plane of x (N, C, H, W)."""
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef Py_ssize_t planes = cnp.PyArray_DIM(x, 0) * cnp.PyArray_DIM(x, 1), plane
    cdef Py_ssize_t size = cnp.PyArray_DIM(x, 2) * cnp.PyArray_DIM(x, 3)
    cdef int team = team_size(<double>planes * size * WORK_PER_TERM, planes, threads)
    with nogil:
        if team == 1:
            for plane in range(planes):
                y_data[plane] = <real>(sum_of(x_data + plane * size, size) / size)
        else:
            for plane in prange(planes, num_threads=team, schedule="static"):
                y_data[plane] = <real>(sum_of(x_data + plane * size, size) / size)


def global_average_backward(cnp.ndarray grad_y not None, cnp.ndarray grad_x not None, int threads):
    """grad_x: each grad_y shared equally among the pixels of its plane."""
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t planes = cnp.PyArray_DIM(grad_x, 0) * cnp.PyArray_DIM(grad_x, 1), plane
    cdef Py_ssize_t size = cnp.PyArray_DIM(grad_x, 2) * cnp.PyArray_DIM(grad_x, 3)
    cdef int team = team_size(<double>planes * size * WORK_PER_TERM, planes, threads)
    with nogil:
        if team == 1:
            for plane in range(planes):
                fill(grad_y_data[plane] / <real>size, size, grad_x_data + plane * size)
        else:
            for plane in prange(planes, num_threads=team, schedule="static"):
                fill(grad_y_data[plane] / <real>size, size, grad_x_data + plane * size)
