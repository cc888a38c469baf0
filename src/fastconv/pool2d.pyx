"""Two-dimensional pooling: maximum, average and global average, each forward and backward.

A task is one plane (one channel of one image), pooled a vector of neighbouring outputs at a time: every tap of
the window is one strided load. Where windows reach over the left or right edge, their rows are copied between
edges of -inf or zero first. The backward pass of the maximum finds the winners again from x rather than storing
an index for each output.
Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.simd cimport (
    CACHE_LINE, LANES, aligned, ireal, real, sum_of, vint, vload_int, vload_strided, vreal, vselect, vselect_int,
    vset, vset_int, vstays, vstore_int, vstore_some, whole_vectors,
)

cnp.import_array()

cdef enum:
    WORK_PER_PIXEL = 32         # in multiply-adds, for the choice of a team

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
            memcpy(buffer + r * g.row_size + start, source + start, (end - start) * sizeof(real))
            for i in range(end, g.row_size):
                buffer[r * g.row_size + i] = edge
            source += rows.step
        rows.first = buffer
        rows.step = g.row_size
    return rows


cdef inline Py_ssize_t buffer_size(const Window* g) noexcept nogil:
    return whole_vectors(min(g.kernel_h, g.height) * g.row_size) if g.padded else 0


# ---- maximum ------------------------------------------------------------------------------------------

cdef void max_row(const Window* g, const real* x, Py_ssize_t oh, real* buffer, real* y) noexcept nogil:
    """One row of maxima."""
    cdef Rows rows = rows_of(g, x, oh, -INFINITY, buffer)
    cdef Py_ssize_t r, s, i = 0
    cdef vreal best, value
    cdef int count
    while i < g.out_width:
        count = <int>min(<Py_ssize_t>LANES, g.out_width - i)
        best = vset(-INFINITY)
        for r in range(rows.count):
            for s in range(g.last_tap - g.first_tap):
                value = vload_strided(rows.first + r * rows.step + i * g.stride_w + s * g.dilation_w, g.stride_w, count)
                best = vselect(vstays(best, value), best, value)
        vstore_some(y + i, best, count)
        i += LANES


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
        count = <int>min(<Py_ssize_t>LANES, g.out_width - i)
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
    real* buffer                # one thread's padded rows


cdef void max_plane(const Window* g, const real* x, real* y, int64_t* indices, MaxMemory m) noexcept nogil:
    cdef Py_ssize_t oh, ow
    for oh in range(g.out_height):
        max_row(g, x, oh, m.buffer, y + oh * g.out_width)
        if indices != NULL:
            winner_row(g, x, oh, m.buffer, m.start, m.winner)
            for ow in range(g.out_width):
                indices[oh * g.out_width + ow] = -1 if m.winner[ow] < 0 else place(g, ow, m.winner[ow])


cdef void max_plane_backward(
    const Window* g, const real* x, const real* grad_y, real* grad_x, MaxMemory m,
) noexcept nogil:
    # Locals: the compiler must reload what a store through grad_x could have changed.
    cdef Py_ssize_t oh, ow, width = g.out_width, stride = g.stride_w
    cdef real* target = grad_x + g.first_column
    cdef const ireal* winner = m.winner
    memset(grad_x, 0, g.height * g.width * sizeof(real))
    for oh in range(g.out_height):
        winner_row(g, x, oh, m.buffer, m.start, m.winner)
        for ow in range(width):
            if winner[ow] >= 0:
                target[winner[ow] + ow * stride] += grad_y[ow]
        grad_y += width


cdef inline MaxMemory memory_of(const Window* g, void* memory, int thread) noexcept nogil:
    cdef MaxMemory m
    cdef Py_ssize_t row = whole_vectors(g.out_width)
    m.start = <ireal*>aligned(memory)
    m.winner = <ireal*>(aligned(memory) + row + thread * (row + buffer_size(g)))
    m.buffer = <real*>m.winner + row
    return m


cdef void* max_memory(const Window* g, int team) except NULL:
    """Memory of a team, with the table `start` filled in."""
    cdef Py_ssize_t row = whole_vectors(g.out_width), ow, column, tap
    cdef void* memory
    cdef ireal* start
    if g.height * g.width + g.row_size > WIDEST >> (0 if sizeof(ireal) == 8 else 32):
        raise ValueError(
            f"x: expected images of fewer than 2**31 pixels; received {g.height} x {g.width}: "
            "use float64, whose indices are wider"
        )
    memory = malloc((row + team * (row + buffer_size(g))) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        raise MemoryError("max_pool2d: no memory for the rows of a window")
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
    cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray indices,
    tuple kernel, tuple stride, tuple padding, tuple dilation, int threads,
):
    """y, the largest value of each window, and its flat index where `indices` (int64) is given."""
    cdef Window g = window_of(x, y, kernel, stride, padding, dilation)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef int64_t* index_data = <int64_t*>cnp.PyArray_DATA(indices) if indices is not None else NULL
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef void* memory = max_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                max_plane(
                    &g, x_data + plane * size, y_data + plane * out_size,
                    index_data + plane * out_size if index_data != NULL else NULL,
                    memory_of(&g, memory, 0),
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                max_plane(
                    &g, x_data + plane * size, y_data + plane * out_size,
                    index_data + plane * out_size if index_data != NULL else NULL,
                    memory_of(&g, memory, threadid()),
                )
        free(memory)


def max_backward(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_x not None,
    tuple kernel, tuple stride, tuple padding, tuple dilation, int threads,
):
    """grad_x: each grad_y goes to the pixel that won its window."""
    cdef Window g = window_of(x, grad_y, kernel, stride, padding, dilation)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef Py_ssize_t size = g.height * g.width, out_size = g.out_height * g.out_width, plane
    cdef int team = team_size(<double>g.planes * size * WORK_PER_PIXEL, g.planes, threads)
    cdef void* memory = max_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                max_plane_backward(
                    &g, x_data + plane * size, grad_y_data + plane * out_size, grad_x_data + plane * size,
                    memory_of(&g, memory, 0),
                )
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                max_plane_backward(
                    &g, x_data + plane * size, grad_y_data + plane * out_size, grad_x_data + plane * size,
                    memory_of(&g, memory, threadid()),
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


cdef void average_plane(const Window* g, const real* x, real* y, const real* counts, real* buffer) noexcept nogil:
    cdef Py_ssize_t oh, i, r, s
    cdef Rows rows
    cdef vreal sums, row
    cdef real divisor
    cdef int count
    for oh in range(g.out_height):
        rows = rows_of(g, x, oh, 0, buffer)
        i = 0
        while i < g.out_width:
            count = <int>min(<Py_ssize_t>LANES, g.out_width - i)
            sums = vset(0)
            for r in range(rows.count):
                row = vset(0)  # a chain a row, so that rounding errors do not grow with the window
                for s in range(g.last_tap - g.first_tap):
                    row = row + vload_strided(rows.first + r * rows.step + i * g.stride_w + s, g.stride_w, count)
                sums = sums + row
            vstore_some(y + i, sums, count)
            i += LANES
        divisor = divisor_of_row(g, oh)
        for i in range(g.out_width):
            y[i] /= divisor * counts[i]
        y += g.out_width


cdef void average_plane_backward(const Window* g, const real* grad_y, real* grad_x, const real* counts) noexcept nogil:
    cdef Py_ssize_t oh, ow, r, s, row, column, first, last
    cdef real share, divisor
    cdef real* target
    memset(grad_x, 0, g.height * g.width * sizeof(real))
    for oh in range(g.out_height):
        row = oh * g.stride_h - g.top
        taps_inside(g, oh, &first, &last)
        divisor = divisor_of_row(g, oh)
        for ow in range(g.out_width):
            column = ow * g.stride_w - g.left
            share = grad_y[oh * g.out_width + ow] / (divisor * counts[ow])
            for r in range(first, last):
                target = grad_x + (row + r) * g.width + column
                for s in range(max(0, -column), min(g.kernel_w, g.width - column)):
                    target[s] += share


cdef real* average_memory(const Window* g, int team) except NULL:
    """The buffer row of every thread, after the table of each output column's counted taps."""
    cdef real* counts = <real*>malloc((g.out_width + team * buffer_size(g)) * sizeof(real))
    cdef Py_ssize_t ow
    if counts == NULL:
        raise MemoryError("avg_pool2d: no memory for the rows of one thread")
    for ow in range(g.out_width):
        counts[ow] = 1
        if g.divisor == 0:
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
    cdef real* counts
    g.count_include_pad = count_include_pad
    g.divisor = divisor
    counts = average_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                average_plane(&g, x_data + plane * size, y_data + plane * out_size, counts, counts + g.out_width)
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                average_plane(
                    &g, x_data + plane * size, y_data + plane * out_size, counts,
                    counts + g.out_width + threadid() * buffer_size(&g),
                )
        free(counts)


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
    cdef real* counts
    g.count_include_pad = count_include_pad
    g.divisor = divisor
    counts = average_memory(&g, team)
    with nogil:
        if team == 1:
            for plane in range(g.planes):
                average_plane_backward(&g, grad_y_data + plane * out_size, grad_x_data + plane * size, counts)
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                average_plane_backward(&g, grad_y_data + plane * out_size, grad_x_data + plane * size, counts)
        free(counts)


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
    cdef int team = team_size(<double>planes * size, planes, threads)
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
    cdef int team = team_size(<double>planes * size, planes, threads)
    with nogil:
        if team == 1:
            for plane in range(planes):
                fill(grad_y_data[plane] / <real>size, size, grad_x_data + plane * size)
        else:
            for plane in prange(planes, num_threads=team, schedule="static"):
                fill(grad_y_data[plane] / <real>size, size, grad_x_data + plane * size)
