# The walk: copies a band of rows into planes, and computes the outputs whose input has just arrived.
#
# It is forward convolution and, with other stencils, gradient of the input; lanes are outputs. Included by
# depthwise.pyx.

# ---- the copy -----------------------------------------------------------------------------------------

cdef void copy_image(
    const Planes* planes, const real* image, Py_ssize_t first_row, real* target,
) noexcept nogil:
    """copy_planes for one plane that holds its padding already, at stride 1 and without cropping."""
    cdef Py_ssize_t row = max(first_row, planes.top), last = min(first_row + planes.rows, planes.top + planes.height)
    cdef Py_ssize_t width = planes.width, whole = planes.width // LANES * LANES, j
    cdef int rest = <int>(width - whole)
    target += (row - first_row) * planes.pitch + planes.left
    image += (row - planes.top) * width
    while row < last:
        j = 0
        while j < whole:
            vstore(target + j, vload(image + j))
            j += LANES
        if rest > 0:
            vstore_partial(target + whole, vload_partial(image + whole, rest), rest)
        target += planes.pitch
        image += width
        row += 1


cdef inline void copy_rows(
    const Walk* w, const real* image, Py_ssize_t first_row, Py_ssize_t copied, Py_ssize_t needed, real* planes,
) noexcept nogil:
    """Rows [copied, needed) of a band's planes.

    The workspace is cleared before the first task, and where an image is one band all have the same padding.
    """
    cdef Planes arriving = w.planes
    arriving.rows = needed - copied
    first_row += copied
    planes += copied * w.planes.pitch
    if w.whole:
        copy_image(&arriving, image, first_row, planes)
    elif w.split:
        copy_pairs(&arriving, image, w.channels, first_row, planes, w.plane_size, w.bands == 1)
    else:
        copy_planes(&arriving, image, w.channels, first_row, planes, w.plane_size, w.bands == 1)


# ---- tiles --------------------------------------------------------------------------------------------

cdef inline void tile(
    const int square, const bint running, const Run* run, Py_ssize_t runs, const real* weight, const real* planes,
    Py_ssize_t pitch, vreal bias, vreal* acc,
) noexcept nogil:
    """acc[i] = bias + the stencil's sum over the vector at `planes` + i rows, or i vectors where they run on.

    A long sum is cut into chains of at most DEPTH, so that rounding errors do not grow with its length.
    """
    cdef vreal row[ROWS]
    cdef vreal total[ROWS]
    cdef vreal value
    cdef const real* source
    cdef Py_ssize_t k = 0, p, depth = 0
    cdef int i, s, y
    for i in range(ROWS):
        acc[i] = bias
    if square > 0:
        while k < runs:
            source = planes + run[k].offset
            for y in range(ROWS + square - 1):
                for s in range(square):
                    value = vload_once(source + s)
                    for i in range(ROWS):
                        if 0 <= y - i and y - i < square:
                            acc[i] = acc[i] + value * weight[s * square + y - i]
                source += pitch
            k += square
            weight += square * square
        return
    for i in range(ROWS):
        total[i] = vset(0)
    for k in range(runs):
        source = planes + run[k].offset
        if running:
            for p in range(run[k].count):
                for i in range(ROWS):
                    acc[i] = acc[i] + vload(source + i * LANES) * weight[p]
                source += pitch
        else:
            for i in range(ROWS - 1):
                row[i] = vload(source)
                source += pitch
            for p in range(run[k].count):
                row[ROWS - 1] = vload(source)
                source += pitch
                for i in range(ROWS):
                    acc[i] = acc[i] + row[i] * weight[p]
                for i in range(ROWS - 1):
                    row[i] = row[i + 1]
        weight += run[k].count
        depth += run[k].count
        if depth > DEPTH - RUN_MAX:
            depth = 0
            for i in range(ROWS):
                total[i] = total[i] + acc[i]
                acc[i] = vset(0)
    for i in range(ROWS):
        acc[i] = acc[i] + total[i]


cdef void store_row(const Walk* w, const real* source, Py_ssize_t length, real* target) noexcept nogil:
    """Activate and store neighbours of one row."""
    cdef Py_ssize_t v = 0
    cdef int count
    if w.target_column == 1:
        while v + LANES <= length:
            vstore(target + v, vactivate(vload(source + v), w.activation, w.slope))
            v += LANES
        if v < length:
            vstore_partial(target + v, vactivate(vload(source + v), w.activation, w.slope), <int>(length - v))
    else:
        while v < length:
            count = <int>min(<Py_ssize_t>LANES, length - v)
            vstore_strided(target + v * w.target_column, vload(source + v), w.target_column, count)
            v += LANES


cdef inline void stencil_rows(
    const int square, const Walk* w, const Stencil* stencil, const real* weight, real bias, const real* planes,
    Py_ssize_t rows, real* target, real* sums,
) noexcept nogil:
    """Some rows of one output plane, a tile at a time."""
    cdef vreal acc[ROWS]
    cdef Py_ssize_t row = 0, column, k, pitch = w.planes.pitch, target_row = w.target_row, width = stencil.grid_w
    cdef Py_ssize_t runs = stencil.runs
    cdef const Run* run = w.run + stencil.first_run
    cdef int i, length
    cdef bint positive = w.activation == RELU
    cdef bint direct = w.target_column == 1 and (positive or w.activation == LINEAR)
    while row < rows:
        column = 0
        while column < width:
            length = <int>min(<Py_ssize_t>LANES, width - column)
            tile(square, False, run, runs, weight, planes + column, pitch, vset(bias), acc)
            if direct:
                if positive:
                    for i in range(ROWS):
                        acc[i] = vactivate(acc[i], RELU, 0)
                if rows - row >= ROWS and length == LANES:
                    for i in range(ROWS):
                        vstore(target + i * target_row + column, acc[i])
                else:
                    for i in range(ROWS):
                        if row + i < rows:
                            vstore_some(target + i * target_row + column, acc[i], length)
            else:
                for i in range(ROWS):
                    vstore(sums + i * LANES, acc[i])
                for k in range(min(<Py_ssize_t>ROWS, rows - row)):
                    store_row(w, sums + k * LANES, length, target + k * target_row + column * w.target_column)
            column += LANES
        planes += ROWS * pitch
        target += ROWS * target_row
        row += ROWS


cdef void paired_rows(
    const Walk* w, const Stencil* stencil, const real* weight, const real* planes, Py_ssize_t rows, real* target,
) noexcept nogil:
    """Some rows of the two residues of a column stride of 2, whose pixels take turns."""
    cdef vreal first[ROWS]
    cdef vreal second[ROWS]
    cdef real[LANES_MAX] last
    cdef Py_ssize_t row = 0, column, pitch = w.planes.pitch
    cdef const Stencil* other = stencil + 1
    cdef int i, pairs
    while row < rows:
        column = 0
        while column < stencil.grid_w:
            tile(
                0, False, w.run + stencil.first_run, stencil.runs, weight, planes + column, pitch, vset(0), first
            )
            tile(
                0, False, w.run + other.first_run, other.runs, weight + stencil.taps, planes + column, pitch, vset(0),
                second,
            )
            pairs = <int>min(<Py_ssize_t>LANES, other.grid_w - column)
            for i in range(ROWS):
                if row + i < rows:
                    vstore_pairs(target + i * w.target_row + 2 * column, first[i], second[i], pairs)
                    if pairs < LANES:  # an odd width ends with a pixel of the first residue
                        vstore(last, first[i])
                        if column + pairs < stencil.grid_w:
                            target[i * w.target_row + 2 * (column + pairs)] = last[pairs]
            column += LANES
        planes += ROWS * pitch
        target += ROWS * w.target_row
        row += ROWS


cdef void running_rows(
    const Walk* w, const Stencil* stencil, const real* weight, real bias, const real* planes, Py_ssize_t rows,
    real* target, real* sums,
) noexcept nogil:
    """The rows of a whole band in vectors that run on through the padding; what they compute there is dropped."""
    cdef vreal acc[ROWS]
    cdef Py_ssize_t j = 0, k
    cdef int i
    while j < (rows - 1) * w.planes.pitch + stencil.grid_w:
        tile(
            0, True, w.run + stencil.first_run, stencil.runs, weight, planes + j, w.planes.pitch, vset(bias), acc
        )
        for i in range(ROWS):
            vstore(sums + j + i * LANES, acc[i])
        j += ROWS * LANES
    for k in range(rows):
        store_row(w, sums + k * w.planes.pitch, stencil.grid_w, target + k * w.target_row)


cdef void walk_task(const Walk* w, Py_ssize_t task, real* workspace) noexcept nogil:
    """One band of one channel of one image."""
    cdef Py_ssize_t band = task % w.bands
    cdef Py_ssize_t plane = task // w.bands
    cdef Py_ssize_t group = plane % w.groups
    cdef Py_ssize_t first_row = band * w.band_rows
    cdef Py_ssize_t rows = min(w.band_rows, w.grid_h - first_row)
    cdef Py_ssize_t depth = w.channels * w.taps
    cdef Py_ssize_t row = 0, copied = 0, step = rows if w.running else AHEAD, needed, count, o, k, t
    cdef const real* source = w.source + plane * w.channels * w.planes.height * w.planes.width
    cdef const real* weight = w.weight + group * w.outputs * depth
    cdef real* planes = workspace + w.start
    cdef real* band_planes
    cdef real* sums = workspace + w.planes_size
    cdef real* ordered = sums + w.sums_size
    cdef real* target
    cdef real bias
    cdef const Stencil* stencil
    for o in range(w.outputs):
        for t in range(w.used):
            ordered[o * depth + t] = weight[o * depth + w.index[t]]
    while row < rows:
        needed = min(row + step, rows) + w.reach_h
        # Rows are copied shortly before they are needed: reading memory overlaps with arithmetic.
        copy_rows(w, source, first_row, copied, needed, planes)
        copied = needed
        for o in range(w.outputs):
            bias = w.bias[group * w.outputs + o] if w.bias != NULL else 0
            k = 0
            while k < w.stencils:
                stencil = w.stencil + k
                k += 2 if w.paired else 1
                count = min(step, rows - row, stencil.grid_h - first_row - row)
                if count <= 0:
                    continue
                target = (
                    w.target + (plane * w.outputs + o) * w.target_plane + stencil.target
                    + (first_row + row) * w.target_row
                )
                weight = ordered + o * depth + stencil.first_tap
                band_planes = planes + row * w.planes.pitch
                if w.running:
                    running_rows(w, stencil, weight, bias, planes, count, target, sums)
                elif w.paired:
                    paired_rows(w, stencil, weight, band_planes, count, target)
                elif stencil.square == 3:
                    stencil_rows(3, w, stencil, weight, bias, band_planes, count, target, sums)
                elif stencil.square == 5:
                    stencil_rows(5, w, stencil, weight, bias, band_planes, count, target, sums)
                else:
                    stencil_rows(0, w, stencil, weight, bias, band_planes, count, target, sums)
        row += step


cdef int run_walk(Walk* w, int threads) noexcept nogil:
    """Every task of a planned walk; -1 where memory is short."""
    cdef Py_ssize_t depth = w.channels * w.taps, task, tasks = w.images * w.groups * w.bands, reach = 0, k
    cdef double work = <double>w.images * w.groups * w.outputs * depth * w.grid_h * w.grid_w
    cdef int team = team_size(work, tasks, threads)
    cdef void* memory
    cdef real* workspace
    w.sums_size = ROWS * LANES
    if w.running:
        w.sums_size = whole_vectors(w.plane_size) + ROWS * LANES
    w.thread_size = w.planes_size + w.sums_size + whole_vectors(w.outputs * depth)
    memory = malloc(team * w.thread_size * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        return -1
    workspace = aligned(memory)
    memset(workspace, 0, team * w.thread_size * sizeof(real))
    for k in range(w.stencils):
        for task in range(w.stencil[k].runs):
            reach = max(
                reach, w.run[w.stencil[k].first_run + task].offset
                + (w.run[w.stencil[k].first_run + task].count - 1) * w.planes.pitch
            )
    CHECK_BOUNDS(
        0, w.start + reach + (w.band_rows - 1) * w.planes.pitch + whole_vectors(w.grid_w) + w.running * ROWS * LANES,
        w.planes_size,
    )
    if team == 1:
        for task in range(tasks):
            walk_task(w, task, workspace)
    else:
        for task in prange(tasks, num_threads=team, schedule="static"):
            walk_task(w, task, workspace + threadid() * w.thread_size)
    free(memory)
    return 0
