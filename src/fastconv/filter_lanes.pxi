# The gradient of the weight where there are filters enough to fill the lanes of a vector.
#
# The left factor is x as it lies, one scalar a (channel, tap) and pixel, at any stride; the right one is grad_y
# transposed, a vector of filters a pixel. So no lane holds a pixel of the padding, no sum crosses lanes, and images
# of any size run at full speed. Included by conv2d.pyx.

cdef struct FilterLanes:
    const Geometry* g
    Planes planes               # padded images, one phase whatever the stride
    bint in_place               # the image is its own plane
    const real* x
    const real* grad_y
    real* target                # parts x weight
    bint swapped                # x and grad_y have changed places: see filter_lanes_kernel
    Py_ssize_t weight_size
    Py_ssize_t tap_count
    Py_ssize_t* offset          # of each (channel of a chunk, tap) in the planes
    Py_ssize_t* pixel           # where each output pixel of a slab lies in the planes
    Py_ssize_t channels         # of one chunk
    Py_ssize_t chunks
    Py_ssize_t filters          # of one chunk, whole vectors
    Py_ssize_t filter_chunks
    int rows                    # of the tile
    int vectors
    Py_ssize_t slab_images      # a slab is several small images or one band of a large one
    Py_ssize_t band_rows
    Py_ssize_t bands
    Py_ssize_t image_step       # between images in a slab plane
    Py_ssize_t plane_size
    Py_ssize_t block            # pixels transposed, and summed, at a time
    Py_ssize_t slabs
    Py_ssize_t parts            # of the slabs, each with a partial sum of its own
    Py_ssize_t planes_size      # workspace of one thread: planes, transposed gradient, sums
    Py_ssize_t panel_size
    Py_ssize_t sums_size


cdef int plan_filter_lanes(FilterLanes* w) noexcept nogil:
    """Cut images into slabs, channels and filters into chunks, from the shape alone; -1 where no memory suffices."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t reach_h = (g.kernel_h - 1) * g.dilation_h + 1, reach_w = (g.kernel_w - 1) * g.dilation_w + 1
    cdef Py_ssize_t height = (g.out_height - 1) * g.stride_h + reach_h
    cdef Py_ssize_t width = (g.out_width - 1) * g.stride_w + reach_w
    cdef Py_ssize_t pixels = g.out_height * g.out_width, sums
    w.in_place = g.top == 0 and g.left == 0 and height <= g.height and width <= g.width
    w.planes.pitch = g.width if w.in_place else width
    if <double>height * width > ADDRESSABLE:
        return -1
    w.bands = ceil_div(g.out_height, max(1, min(g.out_height, SLAB_PIXELS // g.out_width)))
    w.band_rows = ceil_div(g.out_height, w.bands)
    w.bands = ceil_div(g.out_height, w.band_rows)
    w.slab_images = 1 if w.bands > 1 else min(g.images, max(1, SLAB_PIXELS // pixels))
    w.slabs = ceil_div(g.images, w.slab_images)
    w.slab_images = ceil_div(g.images, w.slabs)
    w.slabs = ceil_div(g.images, w.slab_images) * w.bands
    w.planes.rows = (w.band_rows - 1) * g.stride_h + reach_h
    if w.in_place:
        w.image_step = g.groups * g.in_channels * g.height * g.width
        w.plane_size = g.height * g.width
    else:
        w.image_step = w.planes.rows * w.planes.pitch
        w.plane_size = w.slab_images * w.image_step
    w.filter_chunks = ceil_div(g.out_channels, FILTERS)
    w.filters = whole_vectors(ceil_div(g.out_channels, w.filter_chunks))
    w.filter_chunks = ceil_div(g.out_channels, w.filters)
    w.channels = min(g.in_channels, SUMS_ELEMENTS // (w.tap_count * w.filters))
    if not w.in_place:
        w.channels = min(w.channels, PLANE_ELEMENTS // w.plane_size)
    w.chunks = ceil_div(g.in_channels, max(1, w.channels))
    w.channels = ceil_div(g.in_channels, w.chunks)
    w.chunks = ceil_div(g.in_channels, w.channels)
    sums = w.channels * w.tap_count
    choose_tile(sums, w.filters // LANES, &w.rows, &w.vectors)
    w.rows = min(w.rows, GATHERED_ROWS)
    w.vectors = <int>ceil_div(w.filters // LANES, ceil_div(w.filters // LANES, w.vectors))
    w.block = w.slab_images * w.band_rows * g.out_width
    w.block = ceil_div(w.block, ceil_div(w.block, min(<int>DEPTH, BLOCK_BYTES // (w.vectors * VECTOR_BYTES))))
    w.parts = min(w.slabs, ceil_div(TASKS, g.groups * w.chunks * w.filter_chunks))
    w.parts = max(1, min(w.parts, PARTIAL_ELEMENTS // w.weight_size))
    w.planes_size = 0 if w.in_place else whole_vectors(w.channels * w.plane_size)
    w.panel_size = ceil_div(w.filters // LANES, w.vectors) * w.vectors * LANES * w.block
    w.sums_size = sums * w.filters
    return 0


cdef struct Slab:
    Py_ssize_t first_row
    Py_ssize_t images
    Py_ssize_t image_pixels     # of each image
    Py_ssize_t pixels           # of all of them
    const real* x
    const real* grad_y


cdef inline Slab slab_at(
    const FilterLanes* w, Py_ssize_t slab, Py_ssize_t group, Py_ssize_t first_channel, Py_ssize_t first_filter,
) noexcept nogil:
    cdef const Geometry* g = w.g
    cdef Py_ssize_t image = slab // w.bands * w.slab_images
    cdef Slab found
    found.images = min(w.slab_images, g.images - image)
    found.first_row = slab % w.bands * w.band_rows
    found.image_pixels = min(w.band_rows, g.out_height - found.first_row) * g.out_width
    found.pixels = found.images * found.image_pixels
    found.x = w.x + ((image * g.groups + group) * g.in_channels + first_channel) * g.height * g.width
    found.grad_y = w.grad_y + (
        ((image * g.groups + group) * g.out_channels + first_filter) * g.out_height + found.first_row
    ) * g.out_width
    return found


cdef void transpose_gradient(
    const FilterLanes* w, const Slab* slab, Py_ssize_t filters, Py_ssize_t first, Py_ssize_t count, real* panel,
) noexcept nogil:
    """Pixels first .. first + count of a slab, as panels of `vectors` vectors of filters a pixel."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t size = g.out_height * g.out_width, lanes = w.vectors * LANES
    cdef Py_ssize_t done = 0, image, start, length, f, first_lane, width, j
    cdef const real* source
    while done < count:
        image = (first + done) // slab.image_pixels
        start = (first + done) - image * slab.image_pixels
        length = min(slab.image_pixels - start, count - done)
        f = 0
        while f < filters:
            first_lane = f // lanes * lanes
            width = min(lanes, whole_vectors(filters) - first_lane)
            source = slab.grad_y + (image * g.groups * g.out_channels + f) * size + start
            j = 0
            while j < length:
                vtranspose_part(
                    source + j, size, <int>min(<Py_ssize_t>LANES, filters - f),
                    <int>min(<Py_ssize_t>LANES, length - j),
                    panel + first_lane * w.block + (done + j) * width + f - first_lane, width,
                )
                j += LANES
            f += LANES
        done += length


cdef inline void prefetch_gradient(
    const FilterLanes* w, const Slab* slab, Py_ssize_t first_filter, Py_ssize_t last_filter, Py_ssize_t first,
    Py_ssize_t count,
) noexcept nogil:
    """Ask for pixels first .. first + count of some filters, which will be transposed next."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t size = g.out_height * g.out_width, done = 0, image, start, length, f
    while done < count:
        image = (first + done) // slab.image_pixels
        start = (first + done) - image * slab.image_pixels
        length = min(slab.image_pixels - start, count - done)
        for f in range(first_filter, last_filter):
            vprefetch(slab.grad_y + (image * g.groups * g.out_channels + f) * size + start, length)
        done += length


cdef void filter_lanes_task(const FilterLanes* w, Py_ssize_t task, real* workspace) noexcept nogil:
    """One chunk of input channels and one of filters of one group, over one part of the slabs."""
    cdef const Geometry* g = w.g
    cdef Py_ssize_t part = task % w.parts
    cdef Py_ssize_t first_filter = task // w.parts % w.filter_chunks * w.filters
    cdef Py_ssize_t first_channel = task // (w.parts * w.filter_chunks) % w.chunks * w.channels
    cdef Py_ssize_t group = task // (w.parts * w.filter_chunks * w.chunks)
    cdef Py_ssize_t channels = min(w.channels, g.in_channels - first_channel)
    cdef Py_ssize_t filters = min(w.filters, g.out_channels - first_filter)
    cdef Py_ssize_t depth = g.in_channels * w.tap_count
    cdef Py_ssize_t count = channels * w.tap_count
    cdef Py_ssize_t row_step = ceil_div(count, ceil_div(count, w.rows))
    cdef Py_ssize_t vectors = ceil_div(filters, LANES)
    cdef Py_ssize_t tiles = ceil_div(vectors, w.vectors) * ceil_div(count, row_step)
    cdef Py_ssize_t last_slab = (part + 1) * w.slabs // w.parts
    cdef const real* planes = workspace
    cdef const real* whole = w.x if w.in_place else workspace
    cdef real* panel = workspace + w.planes_size
    cdef real* sums = panel + w.panel_size
    cdef real* target = w.target + part * w.weight_size + group * g.out_channels * depth
    cdef Py_ssize_t line = max(1, CACHE_LINE // <Py_ssize_t>sizeof(real) // g.stride_w)
    cdef Slab slab, ahead
    cdef Py_ssize_t n, p, length, ahead_first, ahead_length, tile, b, i, v, q, last
    memset(sums, 0, count * w.filters * sizeof(real))
    for n in range(part * w.slabs // w.parts, last_slab):
        slab = slab_at(w, n, group, first_channel, first_filter)
        if w.in_place:
            planes = slab.x + slab.first_row * g.stride_h * g.width
        else:
            for b in range(slab.images):
                copy_planes(
                    &w.planes, slab.x + b * g.groups * g.in_channels * g.height * g.width, channels,
                    slab.first_row * g.stride_h, workspace + b * w.image_step, w.plane_size, w.bands == 1,
                )
        p = 0
        while p < slab.pixels:
            length = min(w.block, slab.pixels - p)
            transpose_gradient(w, &slab, filters, p, length, panel)
            # The block after this one, maybe of the next slab: memory fetches it while this one is multiplied.
            ahead = slab
            ahead_first = p + length
            if ahead_first == slab.pixels and n + 1 < last_slab:
                ahead = slab_at(w, n + 1, group, first_channel, first_filter)
                ahead_first = 0
            ahead_length = min(w.block, ahead.pixels - ahead_first)
            tile = 0
            v = 0
            while v < vectors:
                i = 0
                while i < count:
                    prefetch_gradient(
                        w, &ahead, tile * filters // tiles, (tile + 1) * filters // tiles, ahead_first, ahead_length
                    )
                    tile += 1
                    if w.in_place and w.tap_count == 1 and v == 0:  # and what the next tile reads where it lies
                        for b in range(i + row_step, min(i + 2 * row_step, count)):
                            q = 0
                            while q < length:
                                vprefetch(planes + w.offset[b] + w.pixel[p + q], 1)
                                q += line
                    last = min(i + row_step, count) - 1
                    CHECK_BOUNDS(
                        planes - whole, planes - whole + w.offset[last] + w.pixel[p + length - 1] + 1,
                        w.planes_size if not w.in_place else g.images * w.image_step,
                    )
                    CHECK_BOUNDS(0, v * LANES * w.block + length * w.vectors * LANES, w.panel_size)
                    gathered_tile(
                        <int>min(<Py_ssize_t>w.vectors, vectors - v), <int>min(row_step, count - i), length,
                        planes, w.pixel + p, w.offset + i, panel + v * LANES * w.block, NULL,
                        sums + i * w.filters + v * LANES, w.filters, sums + i * w.filters + v * LANES, w.filters,
                    )
                    i += row_step
                v += w.vectors
            p += length
    if w.swapped:
        for i in range(count):
            vcopy(target + (first_channel + i) * g.out_channels + first_filter, sums + i * w.filters, filters)
        return
    # Along the rows of the result: it is larger than any cache where images are small.
    for v in range(vectors):
        i = 0
        while i < count:
            vtranspose_part(
                sums + i * w.filters + v * LANES, w.filters, <int>min(<Py_ssize_t>LANES, count - i),
                <int>min(<Py_ssize_t>LANES, filters - v * LANES),
                target + (first_filter + v * LANES) * depth + first_channel * w.tap_count + i, depth,
            )
            i += LANES


cdef int filter_lanes_kernel(
    const Geometry* g, const real* grad_y, const real* x, real* grad_weight, bint swapped, int threads,
) noexcept nogil:
    """Sum into grad_weight; `swapped` asks for the result of a 1x1 kernel with its two channel axes exchanged.

    The gradient of a 1x1 convolution is a product of matrices: with x in the place of grad_y, and grad_y in that of x,
    it is x that is transposed. That is the better way where x has fewer channels.
    """
    cdef FilterLanes w
    cdef Py_ssize_t tasks, task, c, t, p, thread_size, slab_pixels, only_phase = 0
    cdef real* workspace
    cdef void* memory = NULL
    cdef int team
    w.g = g
    w.x = x
    w.grad_y = grad_y
    w.swapped = swapped
    w.tap_count = g.kernel_h * g.kernel_w
    w.weight_size = g.groups * g.out_channels * g.in_channels * w.tap_count
    w.planes.phases = 1
    w.planes.phase_row = &only_phase
    w.planes.phase_column = &only_phase
    w.planes.height = g.height
    w.planes.width = g.width
    w.planes.stride_h = 1
    w.planes.stride_w = 1
    w.planes.top = g.top
    w.planes.left = g.left
    if plan_filter_lanes(&w) != 0:
        return -1
    tasks = g.groups * w.chunks * w.filter_chunks * w.parts
    team = team_size(<double>w.weight_size * g.images * g.out_height * g.out_width, tasks, threads)
    thread_size = w.planes_size + w.panel_size + w.sums_size
    slab_pixels = w.slab_images * w.band_rows * g.out_width
    memory = malloc(
        (team * thread_size + (w.parts * w.weight_size if w.parts > 1 else 0)) * sizeof(real) + CACHE_LINE
    )
    w.offset = <Py_ssize_t*>malloc((w.channels * w.tap_count + slab_pixels) * sizeof(Py_ssize_t))
    if w.offset == NULL or memory == NULL:
        free(w.offset)
        free(memory)
        return -1
    for c in range(w.channels):
        for t in range(w.tap_count):
            w.offset[c * w.tap_count + t] = (
                c * w.plane_size + t // g.kernel_w * g.dilation_h * w.planes.pitch + t % g.kernel_w * g.dilation_w
            )
    w.pixel = w.offset + w.channels * w.tap_count
    for p in range(slab_pixels):
        t = p // g.out_width
        w.pixel[p] = (
            t // w.band_rows * w.image_step + t % w.band_rows * g.stride_h * w.planes.pitch
            + p % g.out_width * g.stride_w
        )
    workspace = aligned(memory)
    memset(workspace, 0, team * thread_size * sizeof(real))  # padding, and the lanes past the last filter
    w.target = workspace + team * thread_size if w.parts > 1 else grad_weight
    if team == 1:
        for task in range(tasks):
            filter_lanes_task(&w, task, workspace)
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            filter_lanes_task(&w, task, workspace + threadid() * thread_size)
    if w.parts > 1:
        add_parts(w.target, w.parts, w.weight_size, grad_weight)
    free(w.offset)
    free(memory)
    return 0
