# Gradient of the weight: accumulators are taps, lanes are pixels to be added up. Included by depthwise.pyx.

cdef struct WeightGradient:
    Walk w
    const real* x
    const real* grad_y
    Py_ssize_t parts            # of the images, each with sums of its own
    Py_ssize_t weights          # of one channel
    double* total               # parts x channels x weights


cdef inline void gradient_rows(
    const int columns, const int count, const Run* run, const real* grad_y, Py_ssize_t width, Py_ssize_t rows,
    Py_ssize_t length, const real* planes, Py_ssize_t pitch, real* sums,
) noexcept nogil:
    """sums[c, t] += grad_y * the input of tap t of run c, over `rows` rows of `length` pixels; runs are neighbours."""
    cdef vreal acc[3][GRADIENT_TAPS]
    cdef vreal grad[ROWS]
    cdef vreal value
    cdef Py_ssize_t row = 0, column
    cdef const real* source
    cdef int c, t, i, y, n
    planes += run.offset
    for c in range(columns):
        for t in range(count):
            acc[c][t] = vload(sums + (c * count + t) * LANES)
    while row < rows:
        column = 0
        while column < length:
            n = <int>min(<Py_ssize_t>LANES, length - column)
            if rows - row >= ROWS and n == LANES:
                for i in range(ROWS):
                    grad[i] = vload(grad_y + i * width + column)
            else:
                for i in range(ROWS):
                    grad[i] = vset(0)
                    if row + i < rows:
                        grad[i] = vload_some(grad_y + i * width + column, n)
            source = planes + column
            for y in range(ROWS + count - 1):
                for c in range(columns):
                    value = vload_once(source + c)
                    for t in range(count):
                        if 0 <= y - t and y - t < ROWS:
                            acc[c][t] = acc[c][t] + value * grad[y - t]
                source += pitch
            column += LANES
        planes += ROWS * pitch
        grad_y += ROWS * width
        row += ROWS
    for c in range(columns):
        for t in range(count):
            vstore(sums + (c * count + t) * LANES, acc[c][t])


cdef void exact_rows(
    const Run* run, const real* grad_y, Py_ssize_t width, Py_ssize_t rows, Py_ssize_t length, const real* planes,
    Py_ssize_t pitch, real* sums,
) noexcept nogil:
    """The same for one run, without touching any other pixel."""
    cdef Py_ssize_t i, j, t
    cdef vreal acc
    cdef int n
    for t in range(run.count):
        acc = vload(sums + t * LANES)
        for i in range(rows):
            j = 0
            while j < length:
                n = <int>min(<Py_ssize_t>LANES, length - j)
                acc = acc + vload_some(grad_y + i * width + j, n) * vload_some(
                    planes + run.offset + (i + t) * pitch + j, n
                )
                j += LANES
        vstore(sums + t * LANES, acc)


cdef void add_rows(
    const Walk* w, bint exact, const real* grad_y, Py_ssize_t rows, Py_ssize_t length, const real* planes, real* sums,
) noexcept nogil:
    """Some rows of one filter, for all its taps."""
    cdef Py_ssize_t k = 0, pitch = w.planes.pitch, width = w.grid_w
    cdef const Run* run
    while k < w.stencil.runs:
        run = w.run + k
        if exact:
            exact_rows(run, grad_y, width, rows, length, planes, pitch, sums)
        elif w.stencil.square == 3:
            gradient_rows(3, 3, run, grad_y, width, rows, length, planes, pitch, sums)
            return
        elif run.count == 1:
            gradient_rows(1, 1, run, grad_y, width, rows, length, planes, pitch, sums)
        elif run.count == 2:
            gradient_rows(1, 2, run, grad_y, width, rows, length, planes, pitch, sums)
        elif run.count == 3:
            gradient_rows(1, 3, run, grad_y, width, rows, length, planes, pitch, sums)
        elif run.count == 4:
            gradient_rows(1, 4, run, grad_y, width, rows, length, planes, pitch, sums)
        else:
            gradient_rows(1, GRADIENT_TAPS, run, grad_y, width, rows, length, planes, pitch, sums)
        sums += run.count * LANES
        k += 1


cdef void flush(const WeightGradient* v, real* sums, double* total) noexcept nogil:
    """Add the lanes up, in double from there on."""
    cdef Py_ssize_t o, t
    cdef real* sum
    for o in range(v.w.outputs):
        for t in range(v.w.taps):
            sum = sums + (o * v.w.taps + t) * LANES
            total[o * v.w.taps + v.w.index[t]] += vsum(vload(sum))
            vstore(sum, vset(0))


cdef void sum_channel(
    const WeightGradient* v, Py_ssize_t group, Py_ssize_t part, bint exact, real* workspace, double* total,
) noexcept nogil:
    """All filters of one channel, over the images of one part."""
    cdef const Walk* w = &v.w
    cdef Py_ssize_t image, band, first_row, rows, row, copied, needed, o, j, plane, length, added, chain = 0
    cdef real* planes = workspace + w.start
    cdef real* sums = workspace + w.planes_size
    cdef const real* grad_y
    memset(total, 0, v.weights * sizeof(double))
    for image in range(part * w.images // v.parts, (part + 1) * w.images // v.parts):
        plane = image * w.groups + group
        for band in range(w.bands):
            first_row = band * w.band_rows
            rows = min(w.band_rows, w.grid_h - first_row)
            copied = 0
            row = 0
            while row < rows:
                needed = min(row + AHEAD, rows) + w.reach_h
                copy_rows(w, v.x + plane * w.planes.height * w.planes.width, first_row, copied, needed, planes)
                copied = needed
                j = 0
                while j < w.grid_w:
                    length = min(<Py_ssize_t>(STRIP * LANES), w.grid_w - j)
                    added = AHEAD * ceil_div(length, LANES)
                    if chain + added > DEPTH:
                        flush(v, sums, total)
                        chain = 0
                    chain += added
                    for o in range(w.outputs):
                        grad_y = (
                            v.grad_y + ((plane * w.outputs + o) * w.grid_h + first_row + row) * w.grid_w + j
                        )
                        add_rows(
                            w, exact, grad_y, min(<Py_ssize_t>AHEAD, rows - row), length,
                            planes + row * w.planes.pitch + j, sums + o * w.taps * LANES,
                        )
                    j += length
                row += AHEAD
    flush(v, sums, total)


cdef void weight_gradient_task(const WeightGradient* v, Py_ssize_t task, real* workspace) noexcept nogil:
    """One channel, over one part of the images."""
    cdef Py_ssize_t group = task // v.parts, part = task % v.parts, t
    cdef double* total = v.total + (part * v.w.groups + group) * v.weights
    sum_channel(v, group, part, False, workspace, total)
    # A vector that ends beyond its row multiplies what lies there by zero, which is not zero for a NaN or an infinity.
    for t in range(v.weights):
        if not isfinite(total[t]):
            sum_channel(v, group, part, True, workspace, total)
            break


cdef int run_weight_gradient(WeightGradient* v, real* grad_weight, int threads) noexcept nogil:
    """Every task of a planned gradient; -1 where memory is short."""
    cdef Walk* w = &v.w
    cdef Py_ssize_t tasks, task, part, t, size
    cdef int team
    cdef void* memory
    cdef real* workspace
    cdef double total
    v.weights = w.outputs * w.taps
    v.parts = min(w.images, ceil_div(TASKS, w.groups))
    tasks = w.groups * v.parts
    team = team_size(<double>w.images * w.groups * v.weights * w.grid_h * w.grid_w, tasks, threads)
    w.thread_size = w.planes_size + v.weights * LANES
    memory = malloc(team * w.thread_size * sizeof(real) + CACHE_LINE)
    v.total = <double*>malloc(tasks * v.weights * sizeof(double))
    if memory == NULL or v.total == NULL:
        free(memory)
        free(v.total)
        return -1
    workspace = aligned(memory)
    memset(workspace, 0, team * w.thread_size * sizeof(real))
    if team == 1:
        for task in range(tasks):
            weight_gradient_task(v, task, workspace)
    else:
        for task in prange(tasks, num_threads=team, schedule="static"):
            weight_gradient_task(v, task, workspace + threadid() * w.thread_size)
    size = w.groups * v.weights
    for t in range(size):
        total = v.total[t]
        for part in range(1, v.parts):
            total = total + v.total[part * size + t]
        grad_weight[t] = <real>total
    free(memory)
    free(v.total)
    return 0
