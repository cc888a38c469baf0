# The gradient of the weight: dot products, over pixels, of grad_output planes with shifted planes of x.
#
# Lanes are pixels. Small images are laid side by side in a slab and large ones cut into bands, so that every
# dot product is long; the slabs are summed in parts whose number the shape fixes. Included by conv2d.pyx.

cdef struct WeightGradient:
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
    Py_ssize_t slabs
    Py_ssize_t parts            # of the slabs, each with a partial sum of its own


cdef int plan_weight_gradient(WeightGradient* w) noexcept nogil:
    """Cut images into slabs and channels into chunks, from the shape alone; -1 where nothing could hold them."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t reach_h = 0, reach_w = 0, t, whole
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
    const real* source, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t pitch, real* target, Py_ssize_t size,
) noexcept nogil:
    """`rows` rows at a pitch, zeros between them and up to `size` elements."""
    cdef Py_ssize_t i, j
    for i in range(rows):
        memcpy(target, source, width * sizeof(real))
        for j in range(width, min(pitch, size - i * pitch)):
            target[j] = 0
        source += width
        target += pitch
    if size > rows * pitch:
        memset(target, 0, (size - rows * pitch) * sizeof(real))


cdef void weight_gradient_task(const WeightGradient* w, Py_ssize_t task, real* workspace) noexcept nogil:
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
    cdef real* rows = workspace + w.chunk * w.planes.phases * w.plane_size
    cdef Py_ssize_t slab, image, images, first_row, band_rows, length, b, k, i, j, count, q, runs
    cdef bint finite
    cdef const real* x
    cdef const real* grad_y
    for k in range(g.out_channels):
        memset(target + k * depth, 0, sums * sizeof(real))
    for slab in range(part * w.slabs // w.parts, (part + 1) * w.slabs // w.parts):
        image = slab // w.bands * w.slab_images
        images = min(w.slab_images, g.images - image)
        first_row = slab % w.bands * w.band_rows
        band_rows = min(w.band_rows, g.out_height - first_row)
        length = (images - 1) * w.image_step + (band_rows - 1) * w.planes.pitch + g.out_width
        for b in range(images):
            x = w.x + (((image + b) * g.groups + group) * g.in_channels + first_channel) * image_size
            copy_planes(&w.planes, x, channels, first_row, planes + b * w.image_step, w.plane_size)
        # A slab runs on through padding columns, where the gradient is zero: with a NaN or an infinity in x
        # that product would not be zero, so such a slab is summed row by row.
        finite = True
        for i in range(channels * w.planes.phases):
            finite = finite and all_finite(planes + i * w.plane_size, images * w.image_step)
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
                        grad_y, band_rows, g.out_width, w.planes.pitch, rows + i * w.plane_size + b * w.image_step,
                        min(w.image_step, length - b * w.image_step),
                    )
            # Runs of pixels: all of the slab at once, or row by row.
            runs = 1 if finite else images * band_rows
            j = 0
            while j < sums:
                CHECK_BOUNDS(
                    0, length + w.offset[min(j + column_step, sums) - 1], w.chunk * w.planes.phases * w.plane_size
                )
                CHECK_BOUNDS(0, length, w.plane_size)
                for i in range(runs):
                    q = i // band_rows * w.image_step + i % band_rows * w.planes.pitch
                    run_dots(
                        <int>min(column_step, sums - j), <int>count, length if finite else g.out_width,
                        rows + q, w.plane_size, planes + q, w.offset + j, target + k * depth + j, depth,
                    )
                j += column_step
            k += row_step


cdef int backward_weight_kernel(
    const Geometry* g, const real* grad_y, const real* x, real* grad_weight, int threads,
) noexcept nogil:
    cdef WeightGradient w
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, tasks, task, t, c, part, thread_size
    cdef Py_ssize_t* phase = <Py_ssize_t*>malloc(2 * taps * sizeof(Py_ssize_t))
    cdef real* memory = NULL
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
    if plan_weight_gradient(&w) != 0:
        free(w.taps)
        free(phase)
        return -1
    tasks = g.groups * w.chunks * w.parts
    work = <double>w.weight_size * g.images * g.out_height * g.out_width
    team = team_size(work, tasks, threads)
    thread_size = (w.chunk * w.planes.phases + DOT_ROWS) * w.plane_size
    w.offset = <Py_ssize_t*>malloc(w.chunk * taps * sizeof(Py_ssize_t))
    memory = <real*>malloc(
        (team * thread_size + (w.parts * w.weight_size if w.parts > 1 else 0)) * sizeof(real)
    )
    if w.offset == NULL or memory == NULL:
        free(w.taps)
        free(phase)
        free(w.offset)
        free(memory)
        return -1
    w.target = memory + team * thread_size if w.parts > 1 else grad_weight
    for c in range(w.chunk):
        for t in range(taps):
            w.offset[c * taps + t] = (
                (c * w.planes.phases + w.taps[t].phase) * w.plane_size
                + w.taps[t].row * w.planes.pitch + w.taps[t].column
            )
    if team == 1:
        for task in range(tasks):
            weight_gradient_task(&w, task, memory)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            weight_gradient_task(&w, task, memory + threadid() * thread_size)
    if w.parts > 1:
        memcpy(grad_weight, w.target, w.weight_size * sizeof(real))
        for part in range(1, w.parts):
            for t in range(w.weight_size):
                grad_weight[t] += w.target[part * w.weight_size + t]
    free(w.taps)
    free(phase)
    free(w.offset)
    free(memory)
    return 0
