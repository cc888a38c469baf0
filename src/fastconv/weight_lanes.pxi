# The gradient of the weight where pixels are so few that a sum over all of them is one chain.
#
# Lanes are the weights of one filter, as they lie in the result: grad_y, where it lies, times the pixels of x that
# each (channel, tap) meets. So every weight is written once, in the order of memory. With filters as lanes the sums
# are transposed at the end, and that takes longer than to sum so few terms. Included by conv2d.pyx.

cdef struct WeightLanes:
    const Geometry* g
    Planes planes               # padded images, one phase whatever the stride
    const real* x
    const real* grad_y
    real* target
    Py_ssize_t plane_size       # of one channel of all images
    Py_ssize_t image_step
    Py_ssize_t depth            # weights of one filter
    Py_ssize_t lead             # lanes before the first of them, so that vectors of the result do not cross cache lines
    Py_ssize_t pixels           # of all images
    Py_ssize_t* place           # of each pixel in grad_y
    Py_ssize_t* pixel           # and in the planes
    Py_ssize_t* row             # of each row of a tile in grad_y
    real* zeros           # where its sums start
    Py_ssize_t* offset          # of each (channel, tap) in the planes
    int rows                    # of the tile
    int vectors
    Py_ssize_t block            # weights of one task, whole panels
    Py_ssize_t blocks
    Py_ssize_t channels         # that one task meets, at most
    Py_ssize_t planes_size      # workspace of one thread: planes, panels, then the sums of one tile
    Py_ssize_t panels_size
    Py_ssize_t sums_size


cdef inline bint weight_lanes_pay(const Geometry* g) noexcept nogil:
    """Whether the pixels of x are quicker to bring into lanes than the sums of filters are to transpose."""
    return g.images * g.out_height * g.out_width <= min(<Py_ssize_t>DEPTH, g.out_channels)


cdef int plan_weight_lanes(WeightLanes* w) noexcept nogil:
    """Cut the weights of a filter into tasks, from the shape alone; -1 where no memory suffices."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, lanes
    w.planes.rows = (g.out_height - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1
    w.planes.pitch = (g.out_width - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1
    if <double>w.planes.rows * w.planes.pitch > ADDRESSABLE:
        return -1
    w.image_step = w.planes.rows * w.planes.pitch
    w.plane_size = g.images * w.image_step
    choose_tile(g.out_channels, ceil_div(w.depth, LANES), &w.rows, &w.vectors)
    w.rows = min(w.rows, GATHERED_ROWS)
    lanes = w.vectors * LANES
    w.lead = <uintptr_t>w.target % VECTOR_BYTES // sizeof(real) if w.depth % LANES == 0 else 0
    w.block = min(ceil_div(w.lead + w.depth, ceil_div(TASKS, g.groups)), PLANE_ELEMENTS // w.pixels)
    w.block = ceil_div(w.block, lanes) * lanes
    w.blocks = ceil_div(w.lead + w.depth, w.block)
    w.channels = min(g.in_channels, (w.block - 1) // taps + 2)
    w.planes_size = whole_vectors(w.channels * w.plane_size)
    w.panels_size = w.block * w.pixels
    w.sums_size = w.rows * lanes
    return 0


cdef void weight_lanes_task(const WeightLanes* w, Py_ssize_t task, real* planes) noexcept nogil:
    """A block of the weights of every filter of one group."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, size = g.out_height * g.out_width
    cdef Py_ssize_t group = task // w.blocks
    cdef Py_ssize_t start = task % w.blocks * w.block - w.lead
    cdef Py_ssize_t last = min(start + w.block, w.depth)
    cdef Py_ssize_t first_channel = max(0, start) // taps
    cdef Py_ssize_t lanes = w.vectors * LANES
    cdef Py_ssize_t row_step = ceil_div(g.out_channels, ceil_div(g.out_channels, w.rows))
    cdef const Py_ssize_t* offset
    cdef const real* source
    cdef const real* grad_y
    cdef real* panels = planes + w.planes_size
    cdef real* sums = panels + w.panels_size
    cdef real* panel
    cdef real* target
    cdef Py_ssize_t b, j, k, p, i, rows, width, low, high
    for b in range(g.images):
        copy_planes(
            &w.planes, w.x + ((b * g.groups + group) * g.in_channels + first_channel) * g.height * g.width,
            (last - 1) // taps + 1 - first_channel, 0, planes + b * w.image_step, w.plane_size, True,
        )
    j = start
    while j < last:
        low = max(0, -j)
        high = min(lanes, last - j)
        panel = panels + (j - start) * w.pixels
        offset = w.offset + j
        for p in range(w.pixels):
            source = planes + w.pixel[p] - first_channel * w.plane_size
            for i in range(low, high):
                panel[i] = source[offset[i]]
            panel += whole_vectors(high)
        j += lanes
    k = 0
    while k < g.out_channels:
        rows = min(row_step, g.out_channels - k)
        grad_y = w.grad_y + (group * g.out_channels + k) * size
        target = w.target + (group * g.out_channels + k) * w.depth
        j = start
        while j < last:
            low = max(0, -j)
            high = min(lanes, last - j)
            width = whole_vectors(high)
            panel = panels + (j - start) * w.pixels
            CHECK_BOUNDS(0, (j - start + width) * w.pixels, w.panels_size)
            CHECK_BOUNDS(0, rows * lanes, w.sums_size)
            if low == 0 and high == width:
                gathered_tile(
                    <int>(width // LANES), <int>rows, w.pixels, grad_y, w.place, w.row,
                    panel, w.zeros, NULL, 0, target + j, w.depth,
                )
            else:
                gathered_tile(
                    <int>(width // LANES), <int>rows, w.pixels, grad_y, w.place, w.row, panel, w.zeros, NULL, 0,
                    sums, lanes,
                )
                for i in range(rows):
                    vcopy(target + i * w.depth + j + low, sums + i * lanes + low, high - low)
            j += lanes
        k += row_step


cdef int weight_lanes_kernel(
    const Geometry* g, const real* grad_y, const real* x, real* grad_weight, int threads,
) noexcept nogil:
    cdef WeightLanes w
    cdef Py_ssize_t size = g.out_height * g.out_width, only_phase = 0, tasks, task, thread_size, t, c, image
    cdef Py_ssize_t row, column
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w
    cdef real* workspace
    cdef void* memory = NULL
    cdef int team
    w.g = g
    w.x = x
    w.grad_y = grad_y
    w.target = grad_weight
    w.depth = g.in_channels * taps
    w.pixels = g.images * size
    w.planes.phases = 1
    w.planes.phase_row = &only_phase
    w.planes.phase_column = &only_phase
    w.planes.height = g.height
    w.planes.width = g.width
    w.planes.stride_h = 1
    w.planes.stride_w = 1
    w.planes.top = g.top
    w.planes.left = g.left
    if plan_weight_lanes(&w) != 0:
        return -1
    tasks = g.groups * w.blocks
    team = team_size(<double>w.depth * g.groups * g.out_channels * w.pixels, tasks, threads)
    thread_size = w.planes_size + w.panels_size + w.sums_size
    memory = malloc((team * thread_size + w.rows) * sizeof(real) + CACHE_LINE)
    w.offset = <Py_ssize_t*>malloc((w.depth + 2 * w.pixels + w.rows) * sizeof(Py_ssize_t))
    if memory == NULL or w.offset == NULL:
        free(memory)
        free(w.offset)
        return -1
    t = 0
    for c in range(g.in_channels):
        for row in range(g.kernel_h):
            for column in range(g.kernel_w):
                w.offset[t] = c * w.plane_size + row * g.dilation_h * w.planes.pitch + column * g.dilation_w
                t += 1
    w.place = w.offset + w.depth
    w.pixel = w.place + w.pixels
    w.row = w.pixel + w.pixels
    for t in range(w.pixels):
        image = t // size
        c = t - image * size
        w.place[t] = image * g.groups * g.out_channels * size + c
        w.pixel[t] = (
            image * w.image_step + c // g.out_width * g.stride_h * w.planes.pitch + c % g.out_width * g.stride_w
        )
    for t in range(w.rows):
        w.row[t] = t * size
    workspace = aligned(memory)
    w.zeros = workspace + team * thread_size
    memset(workspace, 0, (team * thread_size + w.rows) * sizeof(real))
    if team == 1:
        for task in range(tasks):
            weight_lanes_task(&w, task, workspace)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            weight_lanes_task(&w, task, workspace + threadid() * thread_size)
    free(memory)
    free(w.offset)
    return 0
