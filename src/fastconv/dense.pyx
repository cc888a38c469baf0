"""The dense layer, y = activation(x weight^T + bias): forward and its three gradients.

    forward        y[n, o]      = sum_i x[n, i] weight[o, i]        both rows run along i
    grad_x         grad_x[n, i] = sum_o grad_y[n, o] weight[o, i]   rows of weight as they lie
    grad_weight    gw[o, i]     = sum_n grad_y[n, o] x[n, i]        rows of x as they lie
    grad_bias      gb[o]        = sum_n grad_y[n, o]

The gradients are matrix products whose right factor has its columns side by side, as `product` wants them. Forward
has not, and transposes the smaller of its factors: the weights, or else x, which gives the transpose of y. Large
weights are then read where they lie, and once. For a few images it is dot products. Arrays are C order and were
validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from fastconv.parallel cimport SMALL_WORK, team_size
from fastconv.product cimport COLUMNS_MAX, ROWS_MAX, product_rows, run_product
from fastconv.simd cimport (
    CACHE_LINE, DOT_COLUMNS, DOT_ROWS, LANES, VECTOR_BYTES, aligned, real, vactivate, vload, vload_partial, vload_some,
    vreal, vset, vstore, vstore_partial, vstore_some, vtranspose,
    vtranspose_block, whole_vectors,
)
from fastconv.tile cimport DEPTH, VECTORS_MAX, Runs, run_dots

cnp.import_array()

cdef enum:
    CHAIN = 256                 # additions in one chain, so that rounding errors do not grow with the sum
    PANEL = 32768               # bytes of a panel: most of the first-level cache
    TRANSPOSED = 524288         # bytes of x to transpose at a time: a part of the second-level cache
    TOGETHER = 128              # rows to transpose at a time, a multiple of LANES
    GROUP = 24                  # rows that stay in the first-level cache while panels change
    WIDE = 16                   # panels that one task copies at a time, at most
    COPIED = 3                  # blocks of rows for which the copy of a panel that lies badly pays
    ALIASED = 1024              # bytes between rows that then share a quarter of the sets of the first-level cache


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


# ---- products -----------------------------------------------------------------------------------------

cdef struct Product:
    # target[m*target_row + j] = sum over p of left[m*left_row + p*left_step] * right[p*right_step + j], or += the same
    const real* left
    Py_ssize_t left_row
    Py_ssize_t left_step
    const real* right
    Py_ssize_t right_step
    Py_ssize_t right_column     # from one column to the next, where they start panels
    real* target
    Py_ssize_t target_row
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t depth
    bint add
    # plan
    bint copies                 # whether the panels of a task are copied before use
    int vectors                 # of the widest panel
    Py_ssize_t step             # terms of a chain
    Py_ssize_t panels
    Py_ssize_t wide             # panels of a task
    Py_ssize_t parts            # of the rows


cdef inline Py_ssize_t block_rows(Py_ssize_t rows, int vectors) noexcept nogil:
    """Rows of a block beside so many vectors: all blocks alike."""
    return ceil_div(rows, ceil_div(rows, product_rows(vectors)))


cdef inline Py_ssize_t cycles(Py_ssize_t rows, int vectors) noexcept nogil:
    """What one step of the sums of one panel costs, in eighths of a cycle.

    A block does two multiply-adds a cycle, but takes the latency of four cycles that too few accumulators do not
    hide; loads take their share of the ports.
    """
    cdef Py_ssize_t block = block_rows(rows, vectors)
    return (max(4 * block * vectors, 32) + block + vectors) * ceil_div(rows, block)


cdef inline Py_ssize_t first_vector(const Product* g, Py_ssize_t panel) noexcept nogil:
    """Where a panel starts: they are as equal as can be."""
    return panel * ceil_div(g.columns, LANES) // g.panels


cdef inline void plan(Product* g, Py_ssize_t depth, bint together) noexcept nogil:
    """Panels and tasks of products of this shape; `together` keeps all panels of some rows in one task.

    A task has several panels where there are many: factors and results are large then, and memory is faster along rows.
    """
    cdef Py_ssize_t all = ceil_div(g.columns, LANES), best = 0, cost, panels, wider
    cdef int v
    for v in range(1, COLUMNS_MAX + 1 if g.rows == 1 else VECTORS_MAX + 1):
        panels = ceil_div(all, v)
        wider = all % panels
        cost = wider * cycles(g.rows, <int>(all // panels) + 1) if wider else 0
        cost += (panels - wider) * cycles(g.rows, <int>(all // panels))
        if best == 0 or cost <= best:
            best = cost
            g.panels = panels
    g.vectors = <int>ceil_div(all, g.panels)
    g.step = min(<Py_ssize_t>DEPTH, <Py_ssize_t>PANEL // (g.vectors * <Py_ssize_t>VECTOR_BYTES))
    g.step = ceil_div(depth, max(1, ceil_div(depth, g.step)))
    g.wide = g.panels if together else max(1, min(<Py_ssize_t>WIDE, g.panels // 8))
    g.parts = 1
    if <double>g.rows * g.columns * depth >= SMALL_WORK:  # each part of the rows copies its panels anew
        g.parts = min(ceil_div(g.rows, ROWS_MAX), 16 if together else ceil_div(6, g.panels))


cdef inline Py_ssize_t tasks_of(const Product* g) noexcept nogil:
    return ceil_div(g.panels, g.wide) * g.parts


cdef inline Py_ssize_t panel_size(const Product* g) noexcept nogil:
    """Elements that each thread needs for a copy of a panel."""
    return g.step * g.vectors * LANES


cdef void copy_panels(
    const Product* g, Py_ssize_t low, Py_ssize_t high, const real* row, Py_ssize_t depth, real* memory,
) noexcept nogil:
    """Some panels, with zeros after the last column: whole rows of the factor, as memory has them."""
    cdef Py_ssize_t p, panel, start, width, vectors, j
    cdef real* target
    for p in range(depth):
        target = memory
        for panel in range(low, high):
            start = first_vector(g, panel) * LANES
            width = min(first_vector(g, panel + 1) * LANES, g.columns) - start
            vectors = ceil_div(width, LANES)
            for j in range(vectors):
                vstore(
                    target + (p * vectors + j) * LANES,
                    vload_some(row + start + j * LANES, <int>min(<Py_ssize_t>LANES, width - j * LANES)),
                )
            target += panel_size(g)
        row += g.right_step


cdef void product_task(const Product* g, Py_ssize_t task, real* memory) noexcept nogil:
    """Some panels of columns for one part of the rows."""
    cdef Py_ssize_t part = task % g.parts, low = task // g.parts * g.wide, high = min(low + g.wide, g.panels)
    cdef Py_ssize_t first = part * g.rows // g.parts, last = (part + 1) * g.rows // g.parts
    cdef Py_ssize_t p = 0, depth, group, group_end, panel, m, start, width, right_step, block
    cdef const real* right
    cdef int vectors
    while p < g.depth:
        depth = min(g.step, g.depth - p)
        if g.copies:
            copy_panels(g, low, high, g.right + p * g.right_step, depth, memory)
        group = first
        while group < last:
            group_end = min(group + GROUP, last) if g.wide > 1 else last
            for panel in range(low, high):
                start = first_vector(g, panel) * LANES
                width = min(first_vector(g, panel + 1) * LANES, g.columns) - start
                vectors = <int>ceil_div(width, LANES)
                block = block_rows(group_end - group, vectors)
                right = g.right + start * g.right_column + p * (g.right_step if g.right_step else vectors * LANES)
                right_step = g.right_step if g.right_step else vectors * LANES
                if g.copies:
                    right_step = vectors * LANES
                    right = memory + (panel - low) * panel_size(g)
                elif width % LANES and g.right_step:
                    if group == first:
                        copy_panels(g, panel, panel + 1, g.right + p * g.right_step, depth, memory)
                    right_step = vectors * LANES
                    right = memory
                m = group
                while m < group_end:
                    run_product(
                        vectors, ROWS_MAX, <int>min(block, group_end - m), depth,
                        g.left + m * g.left_row + p * g.left_step, g.left_row, g.left_step, right, right_step,
                        g.target + m * g.target_row + start, g.target_row,
                        <int>(width - (vectors - 1) * LANES), p > 0 or g.add,
                    )
                    m += block
            group = group_end
        p += g.step


cdef void run(const Product* g, real* memory, int team) noexcept nogil:
    cdef Py_ssize_t task, tasks = tasks_of(g)
    if team == 1:
        for task in range(tasks):
            product_task(g, task, memory)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            product_task(g, task, memory + threadid() * g.wide * panel_size(g))


# ---- forward ------------------------------------------------------------------------------------------

cdef struct Forward:
    const real* x
    const real* weight
    const real* bias
    real* y
    Py_ssize_t images
    Py_ssize_t inputs
    Py_ssize_t outputs
    int activation
    real slope


cdef inline vreal finished(const Forward* f, vreal value, Py_ssize_t o, int count) noexcept nogil:
    if f.bias != NULL:
        value = value + vload_some(f.bias + o, count)
    return vactivate(value, f.activation, f.slope)


cdef void finish(const Forward* f, Py_ssize_t n, Py_ssize_t o, Py_ssize_t high) noexcept nogil:
    """Bias and activation of outputs o .. high of one image."""
    cdef real* row = f.y + n * f.outputs
    cdef int count
    while o < high:
        count = <int>min(<Py_ssize_t>LANES, high - o)
        vstore_some(row + o, finished(f, vload_some(row + o, count), o, count), count)
        o += LANES


cdef void dots_task(const Forward* f, Py_ssize_t o, Py_ssize_t high) noexcept nogil:
    """Outputs o .. high of at most DOT_COLUMNS images, by dot products."""
    cdef Py_ssize_t i, j, n, rows, start
    cdef Py_ssize_t[DOT_COLUMNS] offset
    cdef real[DOT_ROWS * DOT_COLUMNS] sums
    cdef Py_ssize_t low = o
    cdef Runs run = Runs(f.inputs, 1, 0, 0, 1, 0, 0)
    for j in range(f.images):
        offset[j] = j * f.inputs
    while o < high:
        rows = min(<Py_ssize_t>DOT_ROWS, high - o)
        memset(&sums[0], 0, DOT_ROWS * DOT_COLUMNS * sizeof(real))
        start = 0
        while start < f.inputs:
            run.length = min(<Py_ssize_t>CHAIN * LANES, f.inputs - start)
            run_dots(
                False, <int>f.images, <int>rows, &run, f.weight + o * f.inputs + start, f.inputs, f.x + start,
                &offset[0], &sums[0], DOT_COLUMNS,
            )
            start += run.length
        for j in range(f.images):
            for i in range(rows):
                f.y[j * f.outputs + o + i] = sums[i * DOT_COLUMNS + j]
        o += rows
    for n in range(f.images):
        finish(f, n, low, high)


cdef void transpose_rows(
    const real* x, Py_ssize_t inputs, Py_ssize_t images, Py_ssize_t depth, real* target, Py_ssize_t target_step,
) noexcept nogil:
    """target[k*target_step + n] = x[n*inputs + k] for one vector of images, zero where there are fewer."""
    cdef vreal[LANES] block
    cdef Py_ssize_t k = 0
    cdef int n, i, count
    while images >= LANES and k + LANES <= depth:
        vtranspose_block(x + k, inputs, target + k * target_step, target_step)
        k += LANES
    while k < depth:
        count = <int>min(<Py_ssize_t>LANES, depth - k)
        for n in range(LANES):
            block[n] = vset(0)
        for n in range(min(<Py_ssize_t>LANES, images)):
            block[n] = vload_some(x + n * inputs + k, count)
        vtranspose(&block[0])
        for i in range(count):
            vstore(target + (k + i) * target_step, block[i])
        k += LANES


cdef void finish_transposed(const Forward* f, const real* sums, Py_ssize_t pitch, Py_ssize_t n) noexcept nogil:
    """y of one vector of images, `n` the first of them, from `sums`, their columns of the transpose of y."""
    cdef vreal[LANES] block
    cdef Py_ssize_t o = 0
    cdef int i, count
    while o < f.outputs:
        count = <int>min(<Py_ssize_t>LANES, f.outputs - o)
        for i in range(LANES):
            block[i] = vset(0)
        for i in range(count):
            block[i] = vload(sums + (o + i) * pitch)
        vtranspose(&block[0])
        for i in range(min(<Py_ssize_t>LANES, f.images - n)):
            vstore_some(f.y + (n + i) * f.outputs + o, finished(f, block[i], o, count), count)
        o += LANES


cdef void transpose_panel(
    const real* rows, Py_ssize_t count, Py_ssize_t inputs, const Product* g, Py_ssize_t panel, real* packed,
) noexcept nogil:
    """One panel of the transpose of `count` rows: of g.depth of their terms."""
    cdef Py_ssize_t low = first_vector(g, panel), high = first_vector(g, panel + 1), v
    for v in range(low, high):
        transpose_rows(
            rows + v * LANES * inputs, inputs, count - v * LANES, g.depth,
            packed + low * LANES * g.depth + (v - low) * LANES, (high - low) * LANES,
        )


cdef inline Py_ssize_t transposed_depth(const Product* g, Py_ssize_t inputs) noexcept nogil:
    """Terms of a sum that are transposed at a time: they fill a part of the cache."""
    cdef Py_ssize_t pitch = whole_vectors(g.columns) * <Py_ssize_t>sizeof(real)
    return min(max(<Py_ssize_t>1, <Py_ssize_t>TRANSPOSED // pitch // g.step) * g.step, inputs)


cdef void product_by_transpose(
    Product* g, const real* left, const real* rows, Py_ssize_t count, Py_ssize_t inputs, real* packed, int team,
) noexcept nogil:
    """The target: dot products of the g.rows rows of `left` with `count` other rows, all of `inputs` terms."""
    cdef Py_ssize_t depth = transposed_depth(g, inputs), start = 0, panel
    g.left_row = inputs
    g.left_step = 1
    g.right = packed
    g.right_step = 0
    g.copies = False
    while start < inputs:
        g.depth = min(depth, inputs - start)
        g.right_column = g.depth
        g.left = left + start
        g.add = start > 0
        if team == 1:
            for panel in range(g.panels):
                transpose_panel(rows + start, count, inputs, g, panel, packed)
        else:
            for panel in prange(g.panels, num_threads=team, schedule="static"):
                transpose_panel(rows + start, count, inputs, g, panel, packed)
        run(g, NULL, team)
        start += depth


cdef int forward_kernel(const Forward* f, int threads) noexcept nogil:
    """-1 where memory is short."""
    cdef Product g
    cdef Py_ssize_t first = 0, n, block, blocks, task, images, packed_size
    cdef double work = <double>f.images * f.inputs * f.outputs
    cdef void* memory
    cdef real* packed
    cdef int team
    cdef bint weights = f.outputs <= TOGETHER and (
        f.images * ceil_div(f.outputs, LANES) + f.outputs <= f.outputs * ceil_div(f.images, LANES) + f.images
    )
    if f.inputs == 0:
        memset(f.y, 0, f.images * f.outputs * sizeof(real))
        for n in range(f.images):
            finish(f, n, 0, f.outputs)
        return 0
    if f.images <= DOT_COLUMNS:
        # Whole vectors of outputs, so that no two tasks share one.
        block = ceil_div(ceil_div(f.outputs, LANES), 16) * LANES
        blocks = ceil_div(f.outputs, block)
        team = team_size(work, blocks, threads)
        if team == 1:
            dots_task(f, 0, f.outputs)
        else:
            for task in prange(blocks, num_threads=team, schedule="dynamic"):
                dots_task(f, task * block, min((task + 1) * block, f.outputs))
        return 0
    # What is transposed, the weights or a part of the images: the cheaper of the two, multiply-adds and all.
    images = min(<Py_ssize_t>TOGETHER, f.images)
    g.rows = f.images if weights else f.outputs
    g.columns = f.outputs if weights else whole_vectors(images)
    plan(&g, f.inputs, True)
    team = team_size(work, tasks_of(&g), threads)
    packed_size = max(whole_vectors(g.columns) * min(g.step, f.inputs), TRANSPOSED // <Py_ssize_t>sizeof(real))
    packed_size = min(packed_size, whole_vectors(g.columns) * f.inputs)
    memory = malloc((packed_size + (0 if weights else g.rows * g.columns)) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        return -1
    packed = aligned(memory)
    g.target = f.y if weights else packed + packed_size
    g.target_row = g.columns
    if weights:
        product_by_transpose(&g, f.x, f.weight, f.outputs, f.inputs, packed, team)
        for n in range(f.images):
            finish(f, n, 0, f.outputs)
    else:
        while first < f.images:
            images = min(<Py_ssize_t>TOGETHER, f.images - first)
            g.columns = g.target_row = whole_vectors(images)
            plan(&g, f.inputs, True)
            product_by_transpose(&g, f.weight, f.x + first * f.inputs, images, f.inputs, packed, team)
            for n in range(g.columns // LANES):
                finish_transposed(f, g.target + n * LANES, g.columns, first + n * LANES)
            first += images
    free(memory)
    return 0


# ---- gradients ----------------------------------------------------------------------------------------

cdef void outer_task(const Product* g, Py_ssize_t m, Py_ssize_t end) noexcept nogil:
    """Rows m .. end of an outer product, which are multiples of one row: written in the order of memory."""
    cdef Py_ssize_t j
    cdef vreal factor
    cdef real* target
    while m < end:
        factor = vset(g.left[m * g.left_row])
        target = g.target + m * g.columns
        j = 0
        while j + LANES <= g.columns:
            vstore(target + j, factor * vload(g.right + j))
            j += LANES
        if j < g.columns:
            vstore_partial(target + j, factor * vload_partial(g.right + j, <int>(g.columns - j)), <int>(g.columns - j))
        m += 1


cdef void outer(const Product* g, int threads) noexcept nogil:
    cdef Py_ssize_t blocks = ceil_div(g.rows, ROWS_MAX), block
    cdef int team = team_size(<double>g.rows * g.columns, blocks, threads)
    if team == 1:
        outer_task(g, 0, g.rows)
    else:
        for block in prange(blocks, num_threads=team, schedule="static"):
            outer_task(g, block * ROWS_MAX, min((block + 1) * ROWS_MAX, g.rows))


cdef inline bint lies_badly(const Product* g) noexcept nogil:
    """Whether loads of panels would cross cache lines, or their rows meet in few sets of the cache."""
    cdef Py_ssize_t step = g.right_step * <Py_ssize_t>sizeof(real)
    return <uintptr_t>g.right % VECTOR_BYTES != 0 or step % VECTOR_BYTES != 0 or step % ALIASED == 0


cdef int gradient(Product* g, int threads) noexcept nogil:
    """Plan and run a product whose right factor lies as it is; -1 where memory is short."""
    cdef void* memory
    cdef int team
    if g.depth == 0:
        memset(g.target, 0, g.rows * g.columns * sizeof(real))
        return 0
    if g.depth == 1:
        outer(g, threads)
        return 0
    plan(g, g.depth, False)
    g.right_step = g.columns
    g.right_column = 1
    g.target_row = g.columns
    g.add = False
    g.copies = ceil_div(g.rows, product_rows(g.vectors)) >= COPIED and lies_badly(g)
    team = team_size(<double>g.rows * g.columns * g.depth, tasks_of(g), threads)
    memory = malloc(team * g.wide * panel_size(g) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        return -1
    run(g, aligned(memory), team)
    free(memory)
    return 0


# ---- what Python calls --------------------------------------------------------------------------------

def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    int activation, double slope, int threads,
):
    """y = activation(x weight^T + bias)."""
    cdef Forward f
    cdef int status
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
        status = forward_kernel(&f, threads)
    if status != 0:
        raise MemoryError("dense: no memory for the transpose of x")


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
        status = gradient(&g, threads)
    if status != 0:
        raise MemoryError("dense_backward: no memory for a panel")


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
        status = gradient(&g, threads)
    if status != 0:
        raise MemoryError("dense_backward: no memory for a panel")


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
