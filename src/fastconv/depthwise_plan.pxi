# The plan of the walk: which runs of taps each output has, and how the work is cut.
#
# An axis of the kernel falls into runs of taps below each other, for each residue that a stride leaves. A stencil is
# the runs that one residue of the outputs adds up; `plan_forward` and `plan_backward` make the stencils of their pass
# and choose bands and tasks from the shapes alone. Included by depthwise.pyx.

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


# ---- the walk -----------------------------------------------------------------------------------------

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
