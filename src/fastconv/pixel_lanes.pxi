# The gradient of the weight where filters are few: dot products, over pixels, of grad_output planes with shifted
# planes of x.
#
# Lanes are pixels. Small images are laid side by side in a slab and large ones cut into bands, so that every
# dot product is long; the slabs are summed in parts whose number the shape fixes. Included by conv2d.pyx.

cdef struct PixelLanes:
    const Geometry* g
    Planes planes               # of the images of one slab
    const real* x
    const real* grad_y
    real* target                # parts x weight
    Py_ssize_t weight_size
    Py_ssize_t tap_count
    Tap* taps
    Py_ssize_t* offset          # of each (channel of a chunk, tap)
    Py_ssize_t chunk            # channels of x copied at a time
    Py_ssize_t chunks
    Py_ssize_t slab_images      # a slab is several small images or one band of a large one
    Py_ssize_t band_rows
    Py_ssize_t bands
    Py_ssize_t image_step       # between images in a slab plane
    Py_ssize_t plane_size
    Runs run                    # the pixels of a whole slab: a is grad_y, b the planes
    Py_ssize_t grad_row         # from one row of grad_y to the next in its copy
    Py_ssize_t grad_size        # the copy of one channel of grad_y
    Py_ssize_t slabs
    Py_ssize_t parts            # of the slabs, each with a partial sum of its own


cdef int plan_pixel_lanes(PixelLanes* w) noexcept nogil:
    """Cut images into slabs and channels into chunks, from the shape alone; -1 where nothing could hold them."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t reach_h = 0, reach_w = 0, t, whole, length, slab, image, row
    for t in range(w.tap_count):
        reach_h = max(reach_h, w.taps[t].row)
        reach_w = max(reach_w, w.taps[t].column)
    w.planes.pitch = g.out_width + reach_w
    if <double>w.planes.phases * w.planes.pitch * (g.out_height + reach_h) > ADDRESSABLE:
        return -1
    whole = (g.out_height + reach_h) * w.planes.pitch
    if whole >= SLAB:
        w.slab_images = 1
        w.bands = ceil_div(g.out_height, max(1, min(g.out_height, SLAB // w.planes.pitch)))
        w.band_rows = ceil_div(g.out_height, w.bands)
        w.bands = ceil_div(g.out_height, w.band_rows)
    else:
        w.slab_images = min(g.images, SLAB // whole)
        w.bands = 1
        w.band_rows = g.out_height
    w.planes.rows = w.band_rows + reach_h
    w.image_step = w.planes.rows * w.planes.pitch
    w.plane_size = w.slab_images * w.image_step
    # The pixels of a slab are summed in one run, in a run an image or in a run a row, whichever takes the fewest
    # vectors: long runs meet padding, short ones end in half-empty vectors. grad_y is laid out with zeros there.
    length = (w.band_rows - 1) * w.planes.pitch + g.out_width
    slab = whole_vectors((w.slab_images - 1) * w.image_step + length)
    image = whole_vectors(length)
    row = whole_vectors(g.out_width)
    w.grad_row = w.planes.pitch
    if w.slab_images * w.band_rows * row <= min(slab, w.slab_images * image):
        w.grad_row = row
        w.run = Runs(row, w.band_rows, row, w.planes.pitch, w.slab_images, w.band_rows * row, w.image_step)
    elif w.slab_images * image <= slab:
        w.run = Runs(image, 1, 0, 0, w.slab_images, image, w.image_step)
    else:
        w.run = Runs(slab, 1, 0, 0, 1, w.image_step, 0)
    w.grad_size = whole_vectors(max(slab, (w.slab_images - 1) * w.run.a_image + w.band_rows * w.grad_row + LANES))
    w.slabs = ceil_div(g.images, w.slab_images) * w.bands
    w.chunk = min(g.in_channels, max(1, PLANE_ELEMENTS // (w.planes.phases * w.plane_size)))
    w.chunks = ceil_div(g.in_channels, w.chunk)
    w.chunk = ceil_div(g.in_channels, w.chunks)
    w.chunks = ceil_div(g.in_channels, w.chunk)
    w.parts = min(w.slabs, ceil_div(TASKS, g.groups * w.chunks))
    w.parts = max(1, min(w.parts, PARTIAL_ELEMENTS // w.weight_size))
    return 0


cdef inline bint all_finite(const real* p, Py_ssize_t count) noexcept nogil:
    cdef vreal sums = vset(0)
    cdef Py_ssize_t i = 0
    cdef real rest = 0
    while i + LANES <= count:
        sums = sums + vload(p + i) * <real>0
        i += LANES
    while i < count:
        rest += p[i] * 0
        i += 1
    return vsum(sums) + rest == 0


cdef inline void copy_rows(
    const real* source, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t pitch, real* target,
) noexcept nogil:
    """`rows` rows at a pitch; what lies between them is zero already."""
    cdef Py_ssize_t i
    for i in range(rows):
        vcopy(target + i * pitch, source + i * width, width)


cdef inline Py_ssize_t image_length(const PixelLanes* w, Py_ssize_t rows) noexcept nogil:
    return (rows - 1) * w.planes.pitch + w.g.out_width


cdef void pixel_lanes_task(const PixelLanes* w, Py_ssize_t task, real* workspace) noexcept nogil:
    """One chunk of input channels of one group, over one part of the slabs."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t part = task % w.parts
    cdef Py_ssize_t first_channel = task // w.parts % w.chunks * w.chunk
    cdef Py_ssize_t group = task // (w.parts * w.chunks)
    cdef Py_ssize_t channels = min(w.chunk, g.in_channels - first_channel)
    cdef Py_ssize_t image_size = g.height * g.width, out_size = g.out_height * g.out_width
    cdef Py_ssize_t depth = g.in_channels * w.tap_count
    cdef Py_ssize_t sums = channels * w.tap_count
    cdef Py_ssize_t row_step = ceil_div(g.out_channels, ceil_div(g.out_channels, DOT_ROWS))
    cdef Py_ssize_t column_step = ceil_div(sums, ceil_div(sums, DOT_COLUMNS))
    cdef real* target = (
        w.target + part * w.weight_size + group * g.out_channels * depth + first_channel * w.tap_count
    )
    cdef real* planes = workspace
    cdef real* rows = workspace + whole_vectors(w.chunk * w.planes.phases * w.plane_size) + LANES
    cdef Py_ssize_t slab, image, images, first_row, band_rows, last, b, k, i, j, count
    cdef bint finite
    cdef int columns
    cdef Runs run
    cdef Runs row = Runs(g.out_width, 1, 0, 0, 1, 0, 0)
    cdef const real* x
    cdef const real* grad_y
    for k in range(g.out_channels):
        memset(target + k * depth, 0, sums * sizeof(real))
    for slab in range(part * w.slabs // w.parts, (part + 1) * w.slabs // w.parts):
        image = slab // w.bands * w.slab_images
        images = min(w.slab_images, g.images - image)
        first_row = slab % w.bands * w.band_rows
        band_rows = min(w.band_rows, g.out_height - first_row)
        for b in range(images):
            x = w.x + (((image + b) * g.groups + group) * g.in_channels + first_channel) * image_size
            copy_planes(
                &w.planes, x, channels, first_row, planes + b * w.image_step, w.plane_size, w.bands == 1
            )
        # A NaN or an infinity in x times a zero of the padding is not zero: such a slab is summed row by row.
        finite = True
        for i in range(channels * w.planes.phases):
            finite = finite and all_finite(planes + i * w.plane_size, images * w.image_step)
        run = w.run
        if run.images > 1:
            run.images = images
        elif run.rows == 1 and w.slab_images > 1:
            run.length = whole_vectors((images - 1) * w.image_step + image_length(w, band_rows))
        if run.rows > 1:
            run.rows = band_rows
        elif w.bands > 1:
            run.length = whole_vectors(image_length(w, band_rows))
        k = 0
        while k < g.out_channels:
            count = min(row_step, g.out_channels - k)
            for i in range(count):
                for b in range(images):
                    grad_y = w.grad_y + (
                        (((image + b) * g.groups + group) * g.out_channels + k + i) * out_size
                        + first_row * g.out_width
                    )
                    copy_rows(
                        grad_y, band_rows, g.out_width, w.grad_row, rows + i * w.grad_size + b * w.run.a_image
                    )
                if run.images == 1 and run.rows == 1:
                    # The run's last vector reaches past its last pixel: not into an earlier slab's gradient.
                    b = (images - 1) * w.run.a_image + image_length(w, band_rows)
                    memset(rows + i * w.grad_size + b, 0, (run.length - b) * sizeof(real))
            j = 0
            while j < sums:
                columns = <int>min(column_step, sums - j)
                last = (run.images - 1) * run.b_image + (run.rows - 1) * run.b_row + run.length
                CHECK_BOUNDS(
                    0, w.offset[j + columns - 1] + last, w.chunk * w.planes.phases * w.plane_size + LANES
                )
                CHECK_BOUNDS(0, (run.images - 1) * run.a_image + (run.rows - 1) * run.a_row + run.length, w.grad_size)
                if finite:
                    run_dots(
                        True, columns, <int>count, &run, rows, w.grad_size, planes, w.offset + j,
                        target + k * depth + j, depth,
                    )
                else:
                    for i in range(images * band_rows):
                        run_dots(
                            False, columns, <int>count, &row,
                            rows + i // band_rows * w.run.a_image + i % band_rows * w.grad_row, w.grad_size,
                            planes + i // band_rows * w.image_step + i % band_rows * w.planes.pitch, w.offset + j,
                            target + k * depth + j, depth,
                        )
                j += column_step
            k += row_step


cdef int pixel_lanes_kernel(
    const Geometry* g, const real* grad_y, const real* x, real* grad_weight, int threads,
) noexcept nogil:
    cdef PixelLanes w
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, tasks, task, t, c, thread_size
    cdef Py_ssize_t* phase = <Py_ssize_t*>malloc(2 * taps * sizeof(Py_ssize_t))
    cdef void* memory = NULL
    cdef real* workspace
    cdef double work
    cdef int team
    w.taps = <Tap*>malloc(taps * sizeof(Tap))
    if w.taps == NULL or phase == NULL:
        free(w.taps)
        free(phase)
        return -1
    w.g = g
    w.x = x
    w.grad_y = grad_y
    w.weight_size = g.groups * g.out_channels * g.in_channels * taps
    w.tap_count = taps
    w.planes.phases = phases_of_taps(g, w.taps, phase, phase + taps)
    w.planes.phase_row = phase
    w.planes.phase_column = phase + taps
    w.planes.height = g.height
    w.planes.width = g.width
    w.planes.stride_h = g.stride_h
    w.planes.stride_w = g.stride_w
    w.planes.top = g.top
    w.planes.left = g.left
    if plan_pixel_lanes(&w) != 0:
        free(w.taps)
        free(phase)
        return -1
    tasks = g.groups * w.chunks * w.parts
    work = <double>w.weight_size * g.images * g.out_height * g.out_width
    team = team_size(work, tasks, threads)
    thread_size = whole_vectors(w.chunk * w.planes.phases * w.plane_size) + LANES + DOT_ROWS * w.grad_size
    w.offset = <Py_ssize_t*>malloc(w.chunk * taps * sizeof(Py_ssize_t))
    memory = malloc(
        (team * thread_size + (w.parts * w.weight_size if w.parts > 1 else 0)) * sizeof(real) + CACHE_LINE
    )
    if w.offset == NULL or memory == NULL:
        free(w.taps)
        free(phase)
        free(w.offset)
        free(memory)
        return -1
    workspace = aligned(memory)
    memset(workspace, 0, team * thread_size * sizeof(real))  # padding, and what lies between rows of grad_y
    w.target = workspace + team * thread_size if w.parts > 1 else grad_weight
    for c in range(w.chunk):
        for t in range(taps):
            w.offset[c * taps + t] = (
                (c * w.planes.phases + w.taps[t].phase) * w.plane_size
                + w.taps[t].row * w.planes.pitch + w.taps[t].column
            )
    if team == 1:
        for task in range(tasks):
            pixel_lanes_task(&w, task, workspace)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            pixel_lanes_task(&w, task, workspace + threadid() * thread_size)
    if w.parts > 1:
        add_parts(w.target, w.parts, w.weight_size, grad_weight)
    free(w.taps)
    free(phase)
    free(w.offset)
    free(memory)
    return 0
