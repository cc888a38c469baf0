"""The dense layer, y = activation(x weight^T + bias): forward and its three gradients.

    forward        y[n, o]      = sum_i x[n, i] weight[o, i]        both rows run along i: `dots`
    grad_x         grad_x[n, i] = sum_o grad_y[n, o] weight[o, i]   rows of weight as they lie: `tile`
    grad_weight    gw[o, i]     = sum_n grad_y[n, o] x[n, i]        rows of x as they lie: `tile`
    grad_bias      gb[o]        = sum_n grad_y[n, o]

so no matrix is ever transposed; the tile's small left factor is packed. Arrays are C order and were validated
by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.simd cimport DOT_COLUMNS, DOT_ROWS, LANES, real, vactivate, vload_some, vreal, vset, vstore_some
from fastconv.tile cimport DEPTH, VECTORS_MAX, Runs, choose_tile, run_dots, run_tile

cnp.import_array()

cdef enum:
    BAND = 48                   # rows of x in a forward task
    CHAIN = 256                 # additions in one chain, so that rounding errors do not grow with the sum


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


# ---- forward ------------------------------------------------------------------------------------------

cdef struct Forward:
    const real* x
    const real* weight
    const real* bias
    real* y
    Py_ssize_t images
    Py_ssize_t inputs
    Py_ssize_t outputs
    Py_ssize_t bands
    Py_ssize_t blocks           # of output features
    Py_ssize_t block            # features of one
    int activation
    real slope


cdef inline void finish(
    real* row, const real* bias, int count, int activation, real slope,
) noexcept nogil:
    """row = activation(row + bias), for at most one vector of elements."""
    cdef vreal value = vload_some(row, count)
    if bias != NULL:
        value = value + vload_some(bias, count)
    vstore_some(row, vactivate(value, activation, slope), count)


cdef void forward_task(const Forward* f, Py_ssize_t task) noexcept nogil:
    """One block of output features for one band of rows of x."""
    cdef Py_ssize_t first = task // f.blocks * BAND, last = min(first + BAND, f.images)
    cdef Py_ssize_t low = task % f.blocks * f.block, high = min(low + f.block, f.outputs)
    cdef Py_ssize_t column_step = ceil_div(last - first, ceil_div(last - first, DOT_COLUMNS))
    cdef Py_ssize_t row_step = ceil_div(high - low, ceil_div(high - low, DOT_ROWS))
    cdef Py_ssize_t n, o = low, i, j, rows, columns, start
    cdef Py_ssize_t[DOT_COLUMNS] offset
    cdef real[DOT_ROWS * DOT_COLUMNS] sums
    cdef real* row
    cdef Runs run = Runs(f.inputs, 1, 0, 0, 1, 0, 0)
    while o < high:
        rows = min(row_step, high - o)
        n = first
        while n < last:
            columns = min(column_step, last - n)
            for j in range(columns):
                offset[j] = (n + j) * f.inputs
            memset(&sums[0], 0, DOT_ROWS * DOT_COLUMNS * sizeof(real))
            start = 0
            while start < f.inputs:
                run.length = min(<Py_ssize_t>CHAIN * LANES, f.inputs - start)
                run_dots(
                    False, <int>columns, <int>rows, &run, f.weight + o * f.inputs + start, f.inputs, f.x + start,
                    &offset[0], &sums[0], DOT_COLUMNS,
                )
                start += run.length
            for j in range(columns):
                row = f.y + (n + j) * f.outputs + o
                for i in range(rows):
                    row[i] = sums[i * DOT_COLUMNS + j]
            n += columns
        o += rows
    for n in range(first, last):
        row = f.y + n * f.outputs
        o = low
        while o < high:
            finish(
                row + o, f.bias + o if f.bias != NULL else NULL, <int>min(<Py_ssize_t>LANES, high - o),
                f.activation, f.slope,
            )
            o += LANES


cdef void forward_kernel(Forward* f, int threads) noexcept nogil:
    cdef Py_ssize_t task, tasks
    cdef int team
    f.bands = ceil_div(f.images, BAND)
    # Whole vectors of features, so that no two tasks share one.
    f.block = ceil_div(ceil_div(f.outputs, LANES), max(1, 16 // f.bands)) * LANES
    f.blocks = ceil_div(f.outputs, f.block)
    tasks = f.bands * f.blocks
    team = team_size(<double>f.images * f.inputs * f.outputs, tasks, threads)
    if team == 1:
        for task in range(tasks):
            forward_task(f, task)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            forward_task(f, task)


# ---- gradients ----------------------------------------------------------------------------------------

cdef struct Product:
    # target[m, j] = sum over p of left[m*left_row + p*left_step] * right[p*columns + j]
    const real* left
    Py_ssize_t left_row
    Py_ssize_t left_step
    const real* right
    real* target
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t depth
    # plan
    int tile_rows
    int vectors
    Py_ssize_t lanes
    Py_ssize_t blocks           # of rows
    Py_ssize_t panels           # of columns
    Py_ssize_t parts            # of the blocks
    real* packed                # [block][p][row]
    real* zeros                 # one block's starting sums
    Py_ssize_t* offset
    Py_ssize_t[VECTORS_MAX] place


cdef void product_task(const Product* g, Py_ssize_t task, real* sums) noexcept nogil:
    """One panel of columns for one part of the rows."""
    cdef Py_ssize_t part = task % g.parts, start = task // g.parts * g.lanes
    cdef Py_ssize_t count = min(g.lanes, g.columns - start), column = start, step, p, block, i, m
    if g.columns >= g.lanes:
        column = min(start, g.columns - g.lanes)  # the last panel steps back rather than past a row
    step = ceil_div(g.depth, ceil_div(g.depth, DEPTH))
    for block in range(part * g.blocks // g.parts, (part + 1) * g.blocks // g.parts):
        p = 0
        while p < g.depth:
            run_tile(
                g.vectors, False, g.tile_rows, min(step, g.depth - p),
                g.packed + (block * g.depth + p) * g.tile_rows, g.right + column, g.offset + p, &g.place[0], 0,
                sums, g.lanes, g.zeros if p == 0 else NULL,
            )
            p += step
        for i in range(min(<Py_ssize_t>g.tile_rows, g.rows - block * g.tile_rows)):
            m = block * g.tile_rows + i
            memcpy(g.target + m * g.columns + start, sums + i * g.lanes + start - column, count * sizeof(real))


cdef int product(Product* g, int threads) noexcept nogil:
    """Plan, pack and run a matrix product; -1 where memory is short."""
    cdef Py_ssize_t tasks, task, p, i, m, block, packed_size, sums_size, panel_size, pitch
    cdef int team
    cdef real* memory
    cdef real* panel
    cdef real* target
    if g.depth == 0:
        memset(g.target, 0, g.rows * g.columns * sizeof(real))
        return 0
    choose_tile(g.rows, ceil_div(g.columns, LANES), &g.tile_rows, &g.vectors)
    for i in range(VECTORS_MAX):
        g.place[i] = i * LANES
    g.lanes = g.vectors * LANES
    g.blocks = ceil_div(g.rows, g.tile_rows)
    g.panels = ceil_div(g.columns, g.lanes)
    g.parts = min(g.blocks, ceil_div(16, g.panels))
    tasks = g.panels * g.parts
    team = team_size(<double>g.rows * g.columns * g.depth, tasks, threads)
    packed_size = g.blocks * g.depth * g.tile_rows
    sums_size = g.tile_rows * g.lanes
    panel_size = g.depth * g.lanes if g.columns < g.lanes else 0
    memory = <real*>malloc((packed_size + g.tile_rows + panel_size + team * sums_size) * sizeof(real))
    g.offset = <Py_ssize_t*>malloc(g.depth * sizeof(Py_ssize_t))
    if memory == NULL or g.offset == NULL:
        free(memory)
        free(g.offset)
        return -1
    g.packed = memory
    g.zeros = memory + packed_size
    panel = g.zeros + g.tile_rows
    memset(g.zeros, 0, g.tile_rows * sizeof(real))
    pitch = g.columns
    if panel_size:  # narrower than a tile: a padded copy keeps its loads inside
        pitch = g.lanes
        for p in range(g.depth):
            memcpy(panel + p * pitch, g.right + p * g.columns, g.columns * sizeof(real))
            memset(panel + p * pitch + g.columns, 0, (pitch - g.columns) * sizeof(real))
        g.right = panel
    for p in range(g.depth):
        g.offset[p] = p * pitch
    for block in range(g.blocks):
        target = g.packed + block * g.depth * g.tile_rows
        for p in range(g.depth):
            for i in range(g.tile_rows):
                m = block * g.tile_rows + i
                target[i] = g.left[m * g.left_row + p * g.left_step] if m < g.rows else 0
            target += g.tile_rows
    if team == 1:
        for task in range(tasks):
            product_task(g, task, panel + panel_size)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            product_task(g, task, panel + panel_size + threadid() * sums_size)
    free(memory)
    free(g.offset)
    return 0


# ---- what Python calls --------------------------------------------------------------------------------

def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    int activation, double slope, int threads,
):
    """y = activation(x weight^T + bias)."""
    cdef Forward f
    f.x = <const real*>cnp.PyArray_DATA(x)
    f.weight = <const real*>cnp.PyArray_DATA(weight)
    f.bias = <const real*>cnp.PyArray_DATA(bias) if bias is not None else NULL
    f.y = <real*>cnp.PyArray_DATA(y)
    f.images = cnp.PyArray_DIM(x, 0)
    f.inputs = cnp.PyArray_DIM(x, 1)
    f.outputs = cnp.PyArray_DIM(weight, 0)
    f.activation = activation
    f.slope = <real>slope
    with nogil:
        forward_kernel(&f, threads)


def backward_input(
    cnp.ndarray grad_y not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None, int threads,
):
    """grad_x = grad_y weight."""
    cdef Product g
    cdef int status
    g.left = <const real*>cnp.PyArray_DATA(grad_y)
    g.right = <const real*>cnp.PyArray_DATA(weight)
    g.target = <real*>cnp.PyArray_DATA(grad_x)
    g.rows = cnp.PyArray_DIM(grad_y, 0)
    g.depth = cnp.PyArray_DIM(weight, 0)
    g.columns = cnp.PyArray_DIM(weight, 1)
    g.left_row = g.depth
    g.left_step = 1
    with nogil:
        status = product(&g, threads)
    if status != 0:
        raise MemoryError("dense_backward: no memory for the packed grad_output")


def backward_weight(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_weight not None, int threads,
):
    """grad_weight = grad_y^T x."""
    cdef Product g
    cdef int status
    g.left = <const real*>cnp.PyArray_DATA(grad_y)
    g.right = <const real*>cnp.PyArray_DATA(x)
    g.target = <real*>cnp.PyArray_DATA(grad_weight)
    g.rows = cnp.PyArray_DIM(grad_y, 1)
    g.depth = cnp.PyArray_DIM(x, 0)
    g.columns = cnp.PyArray_DIM(x, 1)
    g.left_row = 1
    g.left_step = g.rows
    with nogil:
        status = product(&g, threads)
    if status != 0:
        raise MemoryError("dense_backward: no memory for the packed grad_output")


cdef void bias_gradient(const real* grad_y, Py_ssize_t images, Py_ssize_t outputs, real* target) noexcept nogil:
    """The sum of the rows, a vector of columns at a time and in chains of CHAIN rows."""
    cdef Py_ssize_t o = 0, n, i
    cdef vreal total, chain
    cdef int count
    while o < outputs:
        count = <int>min(<Py_ssize_t>LANES, outputs - o)
        total = vset(0)
        n = 0
        while n < images:
            chain = vset(0)
            for i in range(n, min(n + CHAIN, images)):
                chain = chain + vload_some(grad_y + i * outputs + o, count)
            total = total + chain
            n += CHAIN
        vstore_some(target + o, total, count)
        o += LANES


def backward_bias(cnp.ndarray grad_y not None, cnp.ndarray grad_bias not None):
    """grad_bias, the sum of grad_y over its rows."""
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_bias_data = <real*>cnp.PyArray_DATA(grad_bias)
    cdef Py_ssize_t images = cnp.PyArray_DIM(grad_y, 0), outputs = cnp.PyArray_DIM(grad_y, 1)
    with nogil:
        bias_gradient(grad_y_data, images, outputs, grad_bias_data)
