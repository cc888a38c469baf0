"""Depthwise convolution: every channel of an image has filters of its own.

With one input channel a filter the arithmetic is as short as the copy of the image, so the point is to touch memory
once and to load little. A task takes one channel of one image, copies it row by row into a padded plane
(plane.pxd) that stays in the first-level cache, and computes the rows whose input has just arrived. Lanes are
neighbouring pixels of a row, and a tile is one vector of ROWS rows below each other:

    a run is taps below each other in one plane: its rows of input slide through registers, so that each is loaded
    once and meets every tap of the run

         tap 0 * row i          out[i]
         tap 1 * row i + 1      out[i]      out[i + 1] has met row i + 1 at tap 0

The three passes are the same walk with other runs:

    forward                 planes are the s x s phases of x
    gradient of the input   planes are grad_output of the channel's filters; a stencil for each of the s x s residues of
                            an input position, made of the taps that reach it
    gradient of the weight  planes as forward; accumulators are taps, lanes are pixels to be added up

Work is cut into tasks by the shapes alone. Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport isfinite
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from fastconv.geometry cimport Geometry, ceil_div, geometry_of
from fastconv.parallel cimport team_size
from fastconv.plane cimport Planes, copy_planes
from fastconv.simd cimport (
    CACHE_LINE, CHECK_BOUNDS, LANES, LINEAR, RELU,
    aligned, real, vactivate, vload, vload_once, vload_pairs, vload_partial, vload_some, vreal, vset, vstore,
    vstore_pairs, vstore_partial, vstore_some, vstore_strided, vsum, whole_vectors,
)
from fastconv.tile cimport DEPTH

cnp.import_array()

cdef enum:
    ROWS = 4                    # of outputs that share their input
    LANES_MAX = 16              # of the widest vectors
    PLANE_BYTES = 24576         # planes of a band: half of the first-level cache
    RUN_MAX = 8                 # taps of a run
    GRADIENT_TAPS = 5           # taps of a run of the weight's gradient, which has an accumulator each
    STRIP = 16                  # vectors of a row whose products are added up at a time
    AHEAD = 16                  # rows copied at a time
    TASKS = 16                  # tasks to aim at, so that a few threads share evenly

cdef double ADDRESSABLE = 1e13  # elements of one image's planes beyond which no machine has memory

cdef struct Run:
    Py_ssize_t offset           # of the first tap's input, from the output's own place
    Py_ssize_t count            # taps, one below the other

cdef struct Stencil:
    # What one residue of the output pixels adds up, and where those pixels lie.
    Py_ssize_t first_run
    Py_ssize_t runs
    Py_ssize_t first_tap
    Py_ssize_t taps
    Py_ssize_t square           # 3 or 5: so many neighbouring runs of so many taps, for every channel; else 0
    Py_ssize_t grid_h
    Py_ssize_t grid_w
    Py_ssize_t target           # first pixel in an output plane

cdef struct Walk:
    # source
    Planes planes               # of one band
    const real* source
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t channels         # summed over, of one group
    Py_ssize_t taps             # of the kernel
    # what is computed
    Run* run
    Py_ssize_t* index           # of each tap in order of the runs, in the weights of its group
    Py_ssize_t used             # taps that any stencil has
    Stencil* stencil
    Py_ssize_t stencils
    const real* weight
    const real* bias
    # destination
    real* target
    Py_ssize_t outputs          # of one group
    Py_ssize_t target_plane
    Py_ssize_t target_row
    Py_ssize_t target_column
    int activation
    real slope
    # plan
    bint whole                  # the image lies in its one plane, which keeps its padding
    bint split                  # the two column phases of a row are copied together
    bint paired                 # stencils of neighbouring columns are stored together
    bint running                # vectors run on through the padding, or else end with their row
    Py_ssize_t grid_h           # of the largest stencil
    Py_ssize_t grid_w
    Py_ssize_t reach_h
    Py_ssize_t band_rows
    Py_ssize_t bands
    Py_ssize_t plane_size
    Py_ssize_t start            # of the planes in the workspace, so that the image's first column is aligned
    Py_ssize_t planes_size      # workspace of one thread: planes, sums of a running band, weights
    Py_ssize_t sums_size
    Py_ssize_t thread_size


# ---- runs ---------------------------------------------------------------------------------------------

cdef struct Place:
    # Where a row or a column of taps finds its input: in which of the phases, and how far on.
    Py_ssize_t phase
    Py_ssize_t step
    Py_ssize_t tap

cdef struct Axis:
    # One of the two directions.
    Py_ssize_t kernel
    Py_ssize_t stride
    Py_ssize_t dilation
    Py_ssize_t padding          # before the image
    Py_ssize_t residues         # of input positions modulo the stride
    Py_ssize_t lowest           # of all steps
    Py_ssize_t reach            # from the lowest step to the highest
    Place* places
    Py_ssize_t* phase           # the phases that the taps use
    Py_ssize_t phases


cdef void forward_places(Axis* axis) noexcept nogil:
    """The taps, those of each phase together, the nearest first."""
    cdef Py_ssize_t phase, tap, count = 0
    axis.phases = 0
    axis.lowest = 0
    axis.reach = (axis.kernel - 1) * axis.dilation // axis.stride
    for phase in range(min(axis.stride, (axis.kernel - 1) * axis.dilation + 1)):
        for tap in range(axis.kernel):
            if tap * axis.dilation % axis.stride == phase:
                if axis.phases == 0 or axis.phase[axis.phases - 1] != phase:
                    axis.phase[axis.phases] = phase
                    axis.phases += 1
                axis.places[count] = Place(axis.phases - 1, tap * axis.dilation // axis.stride, tap)
                count += 1


cdef Py_ssize_t backward_places(Axis* axis, Py_ssize_t residue) noexcept nogil:
    """The taps through which an input pixel of that residue reaches an output pixel, the nearest first; their number.

    Input i = residue + u*stride meets the tap at output u + (residue + padding - tap*dilation)/stride.
    """
    cdef Py_ssize_t tap, step, count = 0
    for tap in range(axis.kernel - 1, -1, -1):
        step = residue + axis.padding - tap * axis.dilation
        if step % axis.stride == 0:
            axis.places[count] = Place(0, step // axis.stride, tap)
            count += 1
    return count


cdef void reach_of_residues(Axis* axis) noexcept nogil:
    """How far the steps of all residues go."""
    cdef Py_ssize_t residue, count, highest = 0
    cdef bint any_tap = False
    axis.phase[0] = 0
    axis.phases = 1
    axis.lowest = 0
    for residue in range(axis.residues):
        count = backward_places(axis, residue)
        if count > 0:
            if not any_tap or axis.places[0].step < axis.lowest:
                axis.lowest = axis.places[0].step
            if not any_tap or axis.places[count - 1].step > highest:
                highest = axis.places[count - 1].step
            any_tap = True
    axis.reach = highest - axis.lowest


cdef int make_axes(const Geometry* g, Axis* rows, Axis* columns) noexcept nogil:
    rows.kernel = g.kernel_h
    rows.stride = g.stride_h
    rows.dilation = g.dilation_h
    rows.padding = g.top
    rows.residues = min(g.stride_h, g.height)
    columns.kernel = g.kernel_w
    columns.stride = g.stride_w
    columns.dilation = g.dilation_w
    columns.padding = g.left
    columns.residues = min(g.stride_w, g.width)
    rows.places = <Place*>malloc((g.kernel_h + g.kernel_w) * sizeof(Place))
    rows.phase = <Py_ssize_t*>malloc((g.kernel_h + g.kernel_w) * sizeof(Py_ssize_t))
    columns.places = rows.places + g.kernel_h
    columns.phase = rows.phase + g.kernel_h
    return -1 if rows.places == NULL or rows.phase == NULL else 0


cdef void free_axes(Axis* rows) noexcept nogil:
    free(rows.places)
    free(rows.phase)


cdef void add_stencil(
    Walk* w, const Axis* rows, Py_ssize_t row_taps, const Axis* columns, Py_ssize_t column_taps, Py_ssize_t run_max,
    Py_ssize_t grid_h, Py_ssize_t grid_w, Py_ssize_t target,
) noexcept nogil:
    """The runs of one stencil: for every channel and column of taps, what lies below each other in one phase."""
    cdef Stencil* stencil = w.stencil + w.stencils
    cdef Stencil* before = stencil - 1
    cdef Py_ssize_t c, i, j, tap = 0
    cdef const Place* row
    cdef const Place* column
    cdef Run* run = NULL
    stencil.first_run = before.first_run + before.runs if w.stencils > 0 else 0
    stencil.first_tap = before.first_tap + before.taps if w.stencils > 0 else 0
    stencil.runs = 0
    stencil.square = 0
    if row_taps == column_taps and (row_taps == 3 or row_taps == 5) and columns.phases == 1 and columns.dilation == 1:
        stencil.square = row_taps
    for c in range(w.channels):
        for j in range(column_taps):
            column = columns.places + j
            for i in range(row_taps):
                row = rows.places + i
                if i == 0 or row.phase != (row - 1).phase or row.step != (row - 1).step + 1 or run.count == run_max:
                    run = w.run + stencil.first_run + stencil.runs
                    run.count = 0
                    run.offset = (
                        ((c * rows.phases + row.phase) * columns.phases + column.phase) * w.plane_size
                        + (row.step - rows.lowest) * w.planes.pitch + column.step - columns.lowest
                    )
                    stencil.runs += 1
                run.count += 1
                w.index[stencil.first_tap + tap] = c * w.taps + row.tap * columns.kernel + column.tap
                tap += 1
    stencil.taps = tap
    w.used = stencil.first_tap + tap
    if stencil.runs != w.channels * stencil.square or tap > DEPTH:
        stencil.square = 0
    stencil.grid_h = grid_h
    stencil.grid_w = grid_w
    stencil.target = target
    w.stencils += 1


# ---- the plan -----------------------------------------------------------------------------------------

cdef int make_plan(Walk* w, const Axis* rows, const Axis* columns, bint may_run) noexcept nogil:
    """Lay out the planes and cut images into bands, from the shape alone; -1 where no memory could hold them."""
    cdef Py_ssize_t per_row, vectors
    w.planes.phases = rows.phases * columns.phases
    w.planes.pitch = w.grid_w + columns.reach
    w.reach_h = rows.reach
    if <double>w.channels * w.planes.phases * whole_vectors(w.planes.pitch) * (w.grid_h + w.reach_h) > ADDRESSABLE:
        return -1
    # Vectors that run on through the padding fill the lanes of narrow images; those that end with a row need less
    # than half of the loads.
    vectors = ceil_div((w.grid_h - 1) * w.planes.pitch + w.grid_w, LANES)
    w.running = may_run and 3 * vectors < 2 * w.grid_h * ceil_div(w.grid_w, LANES)
    w.start = 0
    if not w.running:
        w.planes.pitch = whole_vectors(w.planes.pitch)
        if w.planes.top >= 0 and w.planes.left > 0:
            w.start = (LANES - w.planes.left % LANES) % LANES
    per_row = w.channels * w.planes.phases * w.planes.pitch
    w.band_rows = max(ROWS, w.reach_h, PLANE_BYTES // <Py_ssize_t>sizeof(real) // per_row - w.reach_h)
    w.bands = ceil_div(w.grid_h, min(w.grid_h, w.band_rows))
    w.band_rows = ceil_div(ceil_div(w.grid_h, w.bands), ROWS) * ROWS
    w.bands = ceil_div(w.grid_h, w.band_rows)
    w.planes.rows = w.band_rows + w.reach_h
    w.plane_size = w.planes.rows * w.planes.pitch
    w.whole = (
        w.bands == 1 and w.channels * w.planes.phases == 1 and w.planes.stride_h == 1 and w.planes.stride_w == 1
        and w.planes.top >= 0 and w.planes.left >= 0 and w.planes.left + w.planes.width <= w.planes.pitch
    )
    # The last tile may reach ROWS - 1 rows or vectors beyond: what it computes there is not stored.
    w.planes_size = whole_vectors(
        w.start + w.channels * w.planes.phases * w.plane_size + ROWS * w.planes.pitch + (ROWS + 1) * LANES
    )
    return 0


cdef int allocate_runs(Walk* w, Py_ssize_t stencils) noexcept nogil:
    cdef Py_ssize_t taps = w.channels * w.taps
    w.stencils = 0
    w.run = <Run*>malloc(taps * sizeof(Run))
    w.index = <Py_ssize_t*>malloc(taps * sizeof(Py_ssize_t))
    w.stencil = <Stencil*>malloc(stencils * sizeof(Stencil))
    w.planes.phase_row = <Py_ssize_t*>malloc(w.planes.phases * sizeof(Py_ssize_t))
    w.planes.phase_column = <Py_ssize_t*>malloc(w.planes.phases * sizeof(Py_ssize_t))
    if (
        w.run == NULL or w.index == NULL or w.stencil == NULL
        or w.planes.phase_row == NULL or w.planes.phase_column == NULL
    ):
        return -1
    return 0


cdef void free_runs(Walk* w) noexcept nogil:
    free(w.run)
    free(w.index)
    free(w.stencil)
    free(<void*>w.planes.phase_row)
    free(<void*>w.planes.phase_column)


cdef int plan_forward(Walk* w, const Geometry* g, bint gradient) noexcept nogil:
    """Planes of x and one stencil of all taps, for forward and the weight's gradient."""
    cdef Axis rows, columns
    cdef Py_ssize_t i, j
    cdef int status
    w.images = g.images
    w.groups = g.groups
    w.channels = 1
    w.taps = g.kernel_h * g.kernel_w
    w.outputs = g.out_channels
    w.planes.height = g.height
    w.planes.width = g.width
    w.planes.stride_h = g.stride_h
    w.planes.stride_w = g.stride_w
    w.planes.top = g.top
    w.planes.left = g.left
    w.grid_h = g.out_height
    w.grid_w = g.out_width
    w.run = NULL
    w.index = NULL
    w.stencil = NULL
    w.planes.phase_row = NULL
    w.planes.phase_column = NULL
    status = make_axes(g, &rows, &columns)
    if status == 0:
        forward_places(&rows)
        forward_places(&columns)
        status = make_plan(w, &rows, &columns, not gradient)
        w.paired = False
        w.split = g.stride_w == 2 and columns.phases == 2
    if status == 0:
        status = allocate_runs(w, 1)
    if status == 0:
        for i in range(rows.phases):
            for j in range(columns.phases):
                (<Py_ssize_t*>w.planes.phase_row)[i * columns.phases + j] = rows.phase[i]
                (<Py_ssize_t*>w.planes.phase_column)[i * columns.phases + j] = columns.phase[j]
        add_stencil(
            w, &rows, rows.kernel, &columns, columns.kernel, GRADIENT_TAPS if gradient else RUN_MAX,
            w.grid_h, w.grid_w, 0,
        )
    free_axes(&rows)
    return status


cdef int plan_backward(Walk* w, const Geometry* g) noexcept nogil:
    """Planes of grad_output and a stencil for every residue of an input pixel."""
    cdef Axis rows, columns
    cdef Py_ssize_t i, j, row_taps, column_taps
    cdef int status
    w.images = g.images
    w.groups = g.groups
    w.channels = g.out_channels
    w.taps = g.kernel_h * g.kernel_w
    w.outputs = 1
    w.planes.height = g.out_height
    w.planes.width = g.out_width
    w.planes.stride_h = 1
    w.planes.stride_w = 1
    w.grid_h = ceil_div(g.height, g.stride_h)
    w.grid_w = ceil_div(g.width, g.stride_w)
    w.run = NULL
    w.index = NULL
    w.stencil = NULL
    w.planes.phase_row = NULL
    w.planes.phase_column = NULL
    status = make_axes(g, &rows, &columns)
    if status == 0:
        reach_of_residues(&rows)
        reach_of_residues(&columns)
        w.planes.top = -rows.lowest
        w.planes.left = -columns.lowest
        status = make_plan(w, &rows, &columns, True)
        w.paired = columns.residues == 2 and not w.running
        w.split = False
    if status == 0:
        status = allocate_runs(w, rows.residues * columns.residues)
    if status == 0:
        (<Py_ssize_t*>w.planes.phase_row)[0] = 0
        (<Py_ssize_t*>w.planes.phase_column)[0] = 0
        for i in range(rows.residues):
            row_taps = backward_places(&rows, i)
            for j in range(columns.residues):
                column_taps = backward_places(&columns, j)
                add_stencil(
                    w, &rows, row_taps, &columns, column_taps, RUN_MAX,
                    ceil_div(g.height - i, g.stride_h), ceil_div(g.width - j, g.stride_w), i * g.width + j,
                )
    free_axes(&rows)
    return status


# ---- the copy -----------------------------------------------------------------------------------------

cdef void copy_pairs(
    const Planes* planes, const real* image, Py_ssize_t first_row, real* target, Py_ssize_t plane_size, bint padded,
) noexcept nogil:
    """copy_planes for a column stride of 2 and both of its phases: a row is read once for the two of them."""
    cdef Py_ssize_t a, i, j, source_row, left = planes.left, pitch = planes.pitch
    cdef Py_ssize_t low = max(0, left + 1) // 2     # pairs [low, high) lie in the image
    cdef Py_ssize_t high = max(low, min(pitch, max(0, planes.width + left) // 2))
    cdef const real* source
    cdef real* even
    cdef real* odd
    cdef vreal first, second
    cdef int n
    for a in range(planes.phases // 2):
        even = target + 2 * a * plane_size
        odd = even + plane_size
        for i in range(planes.rows):
            source_row = (first_row + i) * planes.stride_h + planes.phase_row[2 * a] - planes.top
            if not padded:
                memset(even, 0, pitch * sizeof(real))
                memset(odd, 0, pitch * sizeof(real))
            if 0 <= source_row and source_row < planes.height:
                source = image + source_row * planes.width - left
                if left > 0 and left % 2 == 1 and low <= pitch:
                    odd[low - 1] = source[left]
                j = low
                while j < high:
                    n = <int>min(<Py_ssize_t>LANES, high - j)
                    vload_pairs(source + 2 * j, n, &first, &second)
                    vstore_some(even + j, first, n)
                    vstore_some(odd + j, second, n)
                    j += LANES
                if high < pitch and 2 * high - left < planes.width:
                    even[high] = source[2 * high]
            even += pitch
            odd += pitch


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
        copy_pairs(&arriving, image, first_row, planes, w.plane_size, w.bands == 1)
    else:
        copy_planes(&arriving, image, w.channels, first_row, planes, w.plane_size, w.bands == 1)


# ---- lanes are outputs --------------------------------------------------------------------------------

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


# ---- lanes are summed ---------------------------------------------------------------------------------

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


# ---- what Python calls --------------------------------------------------------------------------------

def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int activation, double slope, int threads,
):
    """y = activation(conv(x, weight) + bias)."""
    cdef Geometry g = geometry_of(x, weight, y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups)
    cdef Walk w
    cdef int status
    w.source = <const real*>cnp.PyArray_DATA(x)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.bias = NULL
    if bias is not None:
        w.bias = <const real*>cnp.PyArray_DATA(bias)
    w.target = <real*>cnp.PyArray_DATA(y)
    w.target_plane = g.out_height * g.out_width
    w.target_row = g.out_width
    w.target_column = 1
    w.activation = activation
    w.slope = <real>slope
    with nogil:
        status = plan_forward(&w, &g, False)
        if status == 0:
            status = run_walk(&w, threads)
        free_runs(&w)
    if status != 0:
        raise MemoryError("conv2d: no memory for the padded planes")


def backward_input(
    cnp.ndarray grad_y not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_x, the transposed convolution of grad_y."""
    cdef Geometry g = geometry_of(
        grad_x, weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef Walk w
    cdef int status
    w.source = <const real*>cnp.PyArray_DATA(grad_y)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.bias = NULL
    w.target = <real*>cnp.PyArray_DATA(grad_x)
    w.target_plane = g.height * g.width
    w.target_row = g.width * g.stride_h
    w.target_column = g.stride_w
    w.activation = LINEAR
    w.slope = 0
    with nogil:
        status = plan_backward(&w, &g)
        if status == 0:
            status = run_walk(&w, threads)
        free_runs(&w)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the padded planes")


def backward_weight(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_weight not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_weight, the correlation of grad_y with x."""
    cdef Geometry g = geometry_of(
        x, grad_weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef WeightGradient v
    cdef real* grad_weight_data = <real*>cnp.PyArray_DATA(grad_weight)
    cdef int status
    v.x = <const real*>cnp.PyArray_DATA(x)
    v.grad_y = <const real*>cnp.PyArray_DATA(grad_y)
    with nogil:
        status = plan_forward(&v.w, &g, True)
        if status == 0:
            status = run_weight_gradient(&v, grad_weight_data, threads)
        free_runs(&v.w)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the padded planes and partial sums")
