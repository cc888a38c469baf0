# The sweep: one stride-1 walk of the micro-kernel over the padded planes of every image.
#
# It is forward convolution and, with other taps, gradient of the input. `plan_sweep` cuts the work into tasks
# and chooses the tile from the shape alone; `sweep_task` computes one band of rows of one image.
# Included by conv2d.pyx.

cdef enum:
    RUNNING = 0
    BY_ROW = 1
    TWO_ROWS = 2

cdef struct Sweep:
    # source
    Planes planes               # of one band
    const real* source
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t channels         # summed over, of one group
    Py_ssize_t chunk            # channels copied at a time
    bint in_place               # the image is its own plane
    Py_ssize_t tap_count
    Tap* taps
    Py_ssize_t* offset          # of each (channel of a chunk, tap)
    # weights and bias, packed for the tile
    Py_ssize_t outputs          # of one group
    Py_ssize_t blocks
    int rows
    int vectors
    real* packed                # [group][block][channel][tap][row]
    real* init                  # [group][block][row]
    # destination: a grid of pixels in each output plane
    real* target
    Py_ssize_t grid_h
    Py_ssize_t grid_w
    Py_ssize_t target_plane
    Py_ssize_t target_row
    Py_ssize_t target_column
    int activation
    real slope
    # how vectors lie in a band: RUNNING on through the padding, BY_ROW, or TWO_ROWS each
    int layout
    Py_ssize_t row_vectors
    # tasks
    Py_ssize_t band_rows
    Py_ssize_t bands
    Py_ssize_t parts            # of the output blocks
    Py_ssize_t plane_size
    Py_ssize_t reach            # the largest offset
    Py_ssize_t planes_size      # workspace of one thread: planes, then sums
    Py_ssize_t sums_size
    Py_ssize_t sums_row
    Py_ssize_t sums_block


cdef inline Py_ssize_t vectors_of(const Sweep* s, int layout, Py_ssize_t rows) noexcept nogil:
    """The vectors that cover so many rows of a band."""
    if layout == TWO_ROWS:
        return ceil_div(rows, 2)
    if layout == BY_ROW:
        return rows * s.row_vectors
    return ceil_div((rows - 1) * s.planes.pitch + s.grid_w, LANES)


cdef int plan_sweep(Sweep* s) noexcept nogil:
    """Cut the sweep into tasks and choose its tile, from the shape alone; -1 where no memory could hold it."""
    cdef Py_ssize_t reach_h = 0, reach_w = 0, t, per_row, rows, tasks, band_vectors, lanes
    for t in range(s.tap_count):
        reach_h = max(reach_h, s.taps[t].row)
        reach_w = max(reach_w, s.taps[t].column)
    s.planes.pitch = s.planes.width if s.in_place else s.grid_w + reach_w
    per_row = s.planes.phases * s.planes.pitch
    if <double>per_row * (s.grid_h + reach_h) > ADDRESSABLE:  # a dilation of millions
        return -1
    # A band of rows whose planes fit the budget; where too few rows would fit, some of the channels at a time.
    rows = min(s.grid_h, max(4, ceil_div(8 * LANES, s.planes.pitch)))
    s.chunk = s.channels
    if not s.in_place:
        if <double>s.channels * per_row * (rows + reach_h) > PLANE_ELEMENTS:
            s.chunk = max(1, PLANE_ELEMENTS // (per_row * (rows + reach_h)))
        else:
            rows = min(s.grid_h, PLANE_ELEMENTS // (s.channels * per_row) - reach_h)
    else:
        rows = s.grid_h
    tasks = s.images * s.groups
    if tasks < TASKS:
        rows = min(rows, max(ceil_div(s.grid_h, ceil_div(TASKS, tasks)), ceil_div(4 * LANES, s.planes.pitch)))
    s.bands = ceil_div(s.grid_h, rows)
    s.band_rows = ceil_div(s.grid_h, s.bands)
    s.bands = ceil_div(s.grid_h, s.band_rows)
    s.planes.rows = s.band_rows + reach_h
    # Vectors that run on through the padding compute junk there, those that end with a row may be half empty:
    # whichever layout needs the fewest. The image itself is not padded, and only the running layout stays inside.
    s.row_vectors = ceil_div(s.grid_w, LANES)
    s.layout = RUNNING
    if not s.in_place:
        if vectors_of(s, BY_ROW, s.band_rows) < vectors_of(s, s.layout, s.band_rows):
            s.layout = BY_ROW
        if (
            HALVES and 2 * s.grid_w <= LANES
            and vectors_of(s, TWO_ROWS, s.band_rows) < vectors_of(s, s.layout, s.band_rows)
        ):
            s.layout = TWO_ROWS
    band_vectors = vectors_of(s, s.layout, s.band_rows)
    choose_tile(s.outputs, band_vectors, &s.rows, &s.vectors)
    s.blocks = ceil_div(s.outputs, s.rows)
    lanes = s.vectors * LANES
    if s.in_place and ((s.grid_h - (s.bands - 1) * s.band_rows) - 1) * s.planes.pitch + s.grid_w < lanes:
        s.in_place = False      # a tile would run over the end of the image
        return plan_sweep(s)
    tasks *= s.bands
    s.parts = min(s.blocks, ceil_div(TASKS, tasks)) if tasks < TASKS else 1
    s.plane_size = s.planes.rows * s.planes.pitch
    if s.in_place:
        s.plane_size = s.planes.height * s.planes.width
        s.planes_size = 0
    else:
        s.planes_size = whole_vectors(s.chunk * s.planes.phases * s.plane_size + lanes + s.planes.pitch)
    if s.chunk < s.channels:
        s.sums_row = ceil_div(band_vectors, s.vectors) * lanes
        s.sums_block = s.rows * s.sums_row
    elif s.channels * s.tap_count > DEPTH:
        s.sums_row = lanes
        s.sums_block = s.rows * lanes
    else:
        s.sums_row = lanes
        s.sums_block = 0
    s.sums_size = max(ceil_div(s.blocks, s.parts) * s.sums_block, s.rows * lanes) + LANES  # whole vectors
    return 0


cdef void pack_weight(
    const Sweep* s, const real* weight, Py_ssize_t output_step, Py_ssize_t channel_step, Py_ssize_t block,
    real* packed,
) noexcept nogil:
    """One block of output rows: the `rows` weights of each (channel, tap) side by side, zeros past the end."""
    cdef Py_ssize_t first = block * s.rows, count = min(<Py_ssize_t>s.rows, s.outputs - block * s.rows), c, t, i
    cdef const real* source
    for c in range(s.channels):
        for t in range(s.tap_count):
            source = weight + first * output_step + c * channel_step + s.taps[t].index
            for i in range(count):
                packed[i] = source[i * output_step]
            for i in range(count, s.rows):
                packed[i] = 0
            packed += s.rows


cdef inline void store_run(const Sweep* s, const real* source, real* target, Py_ssize_t length) noexcept nogil:
    """Activate and store neighbours of one row of pixels."""
    cdef Py_ssize_t v = 0
    cdef int n
    while v < length:
        n = <int>min(<Py_ssize_t>LANES, length - v)
        vstore_strided(
            target + v * s.target_column, vactivate(vload(source + v), s.activation, s.slope), s.target_column, n
        )
        v += LANES


cdef inline void store_row(
    const Sweep* s, const real* source, Py_ssize_t count, real* target, Py_ssize_t row, Py_ssize_t column,
    Py_ssize_t length,
) noexcept nogil:
    """Neighbours of one row of pixels, for every output channel of a block."""
    cdef Py_ssize_t i
    cdef real* destination = target + row * s.target_row + column * s.target_column
    for i in range(count):
        store_run(s, source, destination, length)
        source += s.sums_row
        destination += s.target_plane


cdef inline void store_pixels(
    const Sweep* s, const real* sums, Py_ssize_t count, real* target, Py_ssize_t first_row, Py_ssize_t rows,
    Py_ssize_t start, Py_ssize_t vectors,
) noexcept nogil:
    """Store `vectors` vectors of a band without the pixels that lie in the padding.

    `start` is the first pixel in the running layout, else the first vector.
    """
    cdef Py_ssize_t j = 0, row, column, length
    if s.layout == RUNNING:
        while j < vectors * LANES:
            row = (start + j) // s.planes.pitch
            column = (start + j) - row * s.planes.pitch
            if row >= rows:
                break
            length = s.planes.pitch - column
            if column < s.grid_w:
                length = min(s.grid_w - column, vectors * LANES - j)
                store_row(s, sums + j, count, target, first_row + row, column, length)
            j += length
    elif s.layout == BY_ROW:
        for j in range(vectors):
            row = (start + j) // s.row_vectors
            column = ((start + j) - row * s.row_vectors) * LANES
            length = min(<Py_ssize_t>LANES, s.grid_w - column)
            store_row(s, sums + j * LANES, count, target, first_row + row, column, length)
    else:
        for j in range(2 * vectors):
            row = 2 * start + j
            if row < rows:
                store_row(s, sums + j * (LANES // 2), count, target, first_row + row, 0, s.grid_w)


cdef void sweep_task(const Sweep* s, Py_ssize_t task, real* workspace) noexcept nogil:
    """One band of one image and group, for one part of the output channels."""
    cdef Py_ssize_t part = task % s.parts
    cdef Py_ssize_t band = task // s.parts % s.bands
    cdef Py_ssize_t group = task // (s.parts * s.bands) % s.groups
    cdef Py_ssize_t image = task // (s.parts * s.bands * s.groups)
    cdef Py_ssize_t first_row = band * s.band_rows
    cdef Py_ssize_t rows = min(s.band_rows, s.grid_h - first_row)
    cdef Py_ssize_t pixels = (rows - 1) * s.planes.pitch + s.grid_w
    cdef Py_ssize_t first_block = part * s.blocks // s.parts
    cdef Py_ssize_t last_block = (part + 1) * s.blocks // s.parts
    cdef Py_ssize_t lanes = s.vectors * LANES
    cdef Py_ssize_t image_size = s.planes.height * s.planes.width
    cdef Py_ssize_t depth = s.channels * s.tap_count
    cdef const real* source = s.source + (image * s.groups + group) * s.channels * image_size
    cdef real* target = s.target + (image * s.groups + group) * s.outputs * s.target_plane
    cdef const real* packed = s.packed + group * s.blocks * depth * s.rows
    cdef const real* init = s.init + group * s.blocks * s.rows
    cdef real* all_sums = workspace + s.planes_size
    cdef real* sums
    cdef const real* planes = workspace
    cdef Py_ssize_t total = vectors_of(s, s.layout, rows)
    cdef Py_ssize_t c = 0, channels, chunk_depth, start, first, p, step, block, v
    cdef Py_ssize_t[VECTORS_MAX] place
    cdef int j
    while c < s.channels:
        channels = min(s.chunk, s.channels - c)
        if s.in_place:
            planes = source + first_row * s.planes.width
        else:
            # The workspace is cleared before the first task, and where an image is one band all have the same padding.
            copy_planes(
                &s.planes, source + c * image_size, channels, first_row, workspace, s.plane_size, s.bands == 1
            )
        chunk_depth = channels * s.tap_count
        step = ceil_div(chunk_depth, ceil_div(chunk_depth, DEPTH))
        start = 0
        while start < total:
            for j in range(s.vectors):
                v = min(start + j, total - 1)
                if s.layout == RUNNING:
                    place[j] = (start + j) * LANES
                elif s.layout == BY_ROW:
                    place[j] = v // s.row_vectors * s.planes.pitch + v % s.row_vectors * LANES
                else:
                    place[j] = 2 * v * s.planes.pitch
            first = start
            if s.layout == RUNNING:
                first = start * LANES
                if s.in_place and first > pixels - lanes:
                    # the last tile steps back rather than past the image
                    first = pixels - lanes
                    for j in range(s.vectors):
                        place[j] = first + j * LANES
            CHECK_BOUNDS(
                place[0], place[s.vectors - 1] + s.reach + LANES + (s.planes.pitch if s.layout == TWO_ROWS else 0),
                s.planes_size if not s.in_place else s.channels * image_size - first_row * s.planes.width,
            )
            p = 0
            while p < chunk_depth:
                for block in range(first_block, last_block):
                    sums = all_sums + (block - first_block) * s.sums_block
                    if s.chunk < s.channels:
                        sums += start * LANES
                    CHECK_BOUNDS(sums - all_sums, sums - all_sums + (s.rows - 1) * s.sums_row + lanes, s.sums_size)
                    if s.layout == TWO_ROWS:
                        run_tile(
                            s.vectors, True, s.rows, min(step, chunk_depth - p),
                            packed + (block * depth + c * s.tap_count + p) * s.rows,
                            planes, s.offset + p, &place[0], s.planes.pitch, sums, s.sums_row,
                            init + block * s.rows if c == 0 and p == 0 else NULL,
                        )
                    else:
                        run_tile(
                            s.vectors, False, s.rows, min(step, chunk_depth - p),
                            packed + (block * depth + c * s.tap_count + p) * s.rows,
                            planes, s.offset + p, &place[0], s.planes.pitch, sums, s.sums_row,
                            init + block * s.rows if c == 0 and p == 0 else NULL,
                        )
                    if c + channels == s.channels and p + step >= chunk_depth:
                        store_pixels(
                            s, sums, min(<Py_ssize_t>s.rows, s.outputs - block * s.rows),
                            target + block * s.rows * s.target_plane, first_row, rows, first,
                            min(<Py_ssize_t>s.vectors, total - start) if s.layout != RUNNING else s.vectors,
                        )
                p += step
            start += s.vectors
        c += channels


cdef int run_sweep(
    Sweep* s, const real* weight, Py_ssize_t output_step, Py_ssize_t channel_step, Py_ssize_t group_step,
    const real* bias, int threads,
) noexcept nogil:
    """Pack, and run every task of a planned sweep; -1 where memory is short."""
    cdef Py_ssize_t tasks, task, block, depth, packed_size, init_size, thread_size, position, c, t
    cdef double work
    cdef int team, packers
    cdef void* memory
    depth = s.channels * s.tap_count
    tasks = s.images * s.groups * s.bands * s.parts
    work = <double>s.images * s.groups * s.outputs * depth * s.grid_h * s.grid_w
    team = team_size(work, tasks, threads)
    packers = team_size(<double>s.groups * s.outputs * depth * WORK_PER_WEIGHT, s.groups * s.blocks, threads)
    packed_size = whole_vectors(s.groups * s.blocks * depth * s.rows)
    init_size = whole_vectors(s.groups * s.blocks * s.rows)
    thread_size = s.planes_size + s.sums_size
    memory = malloc((packed_size + init_size + team * thread_size) * sizeof(real) + CACHE_LINE)
    s.offset = <Py_ssize_t*>malloc(s.chunk * s.tap_count * sizeof(Py_ssize_t))
    if memory == NULL or s.offset == NULL:
        free(memory)
        free(s.offset)
        return -1
    s.packed = aligned(memory)
    s.init = s.packed + packed_size
    s.reach = 0
    for c in range(s.chunk):
        for t in range(s.tap_count):
            position = (
                (c * s.planes.phases + s.taps[t].phase) * s.plane_size
                + s.taps[t].row * s.planes.pitch + s.taps[t].column
            )
            s.offset[c * s.tap_count + t] = position
            s.reach = max(s.reach, position)
    for block in range(s.groups * s.blocks):
        for c in range(s.rows):
            t = block % s.blocks * s.rows + c
            s.init[block * s.rows + c] = (
                bias[block // s.blocks * s.outputs + t] if bias != NULL and t < s.outputs else 0
            )
    # Padding, and the slack that the last tile of a band reads and never stores.
    for t in range(team):
        memset(s.init + init_size + t * thread_size, 0, thread_size * sizeof(real))
    if team == 1:
        for block in range(s.groups * s.blocks):
            pack_weight(
                s, weight + block // s.blocks * group_step, output_step, channel_step, block % s.blocks,
                s.packed + block * depth * s.rows,
            )
        for task in range(tasks):
            sweep_task(s, task, s.init + init_size)
    else:
        for block in prange(s.groups * s.blocks, num_threads=packers, schedule="static"):
            pack_weight(
                s, weight + block // s.blocks * group_step, output_step, channel_step, block % s.blocks,
                s.packed + block * depth * s.rows,
            )
        # Small work keeps an image on the core that has it in its cache; in large work whoever is free takes the
        # next task, in case another program holds a core.
        if work < LARGE_WORK:
            for task in prange(tasks, num_threads=team, schedule="static"):
                sweep_task(s, task, s.init + init_size + threadid() * thread_size)
        else:
            for task in prange(tasks, num_threads=team, schedule="dynamic"):
                sweep_task(s, task, s.init + init_size + threadid() * thread_size)
    free(memory)
    free(s.offset)
    return 0
