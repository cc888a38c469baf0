# The sweep as a product of two matrices: weights as they lie, times the pixels of all images packed side by side.
#
# For 1x1 kernels, and for images so small that vectors of neighbours would be half empty. A panel holds what each
# (channel, tap) meets at the pixels of a block, whichever images they are of: no lane is lost, and no weight is
# packed, which for a few pixels would take longer than the sums. Included by conv2d.pyx.

cdef enum:
    PANEL_VECTORS = 24          # of pixels in a block
    PANEL_TAPS = 64             # the largest kernel
    PART_OUTPUTS = 128          # output channels that share a panel, at least
    PANEL_ELEMENTS = 98304      # of one chunk's panel (384 KiB of float32)
    PANEL_SUMS = 98304          # sums of one task (384 KiB of float32)

cdef struct Segment:            # pixels of a row that lie side by side in one tile
    Py_ssize_t place            # in the vectors of a block
    Py_ssize_t start            # in the images
    Py_ssize_t count
    Py_ssize_t width            # of the panel: from one (channel, tap) to the next
    Py_ssize_t first            # in the panel: the place at the first (channel, tap)

cdef struct Panel:
    const Sweep* s
    const real* weight
    Py_ssize_t output_step      # in the weight: to the next output, summed channel and group
    Py_ssize_t channel_step
    Py_ssize_t group_step
    const real* bias            # or NULL
    real* init                  # of every output: its bias or zero
    Py_ssize_t* place           # of the weight of each (channel of a chain, tap)
    Py_ssize_t* offset          # of the weight of each row of a tile
    Py_ssize_t step             # channels that one chain sums over
    Py_ssize_t channels         # of one chunk: some chains
    Py_ssize_t chunks
    int rows                    # of the tile
    int vectors
    Py_ssize_t pixels           # of all images
    Py_ssize_t block            # vectors of a block of pixels
    Py_ssize_t blocks
    Py_ssize_t runs             # of blocks, each a task
    Py_ssize_t outputs          # of a part
    Py_ssize_t parts
    Py_ssize_t sums_row
    Py_ssize_t panel_size       # workspace of one thread: panel, sums, biases
    Py_ssize_t sums_size
    Py_ssize_t segments         # and so many of them


cdef void plan_panel(Panel* w) noexcept nogil:
    """Cut pixels, channels and outputs into tasks, from the shape alone."""
    cdef const Sweep* s = w.s
    cdef Py_ssize_t vectors, depth, limit
    w.pixels = s.images * s.grid_h * s.grid_w
    vectors = ceil_div(w.pixels, LANES)
    choose_tile(s.outputs, min(vectors, <Py_ssize_t>PANEL_VECTORS), &w.rows, &w.vectors)
    w.rows = min(w.rows, GATHERED_ROWS)
    # A chain meets a slice of the panel in the first-level cache. Weights that are read once, and in their order, are
    # read along a whole row: of as many chains as the second level has room for.
    depth = min(<int>DEPTH, BLOCK_BYTES // (w.vectors * VECTOR_BYTES))
    w.step = min(s.channels, max(1, depth // s.tap_count))
    w.channels = w.step
    if vectors <= w.vectors and w.channel_step < w.output_step:
        w.channels = max(w.step, min(s.channels, PANEL_ELEMENTS // (s.tap_count * w.vectors * LANES)))
    w.chunks = ceil_div(s.channels, w.channels)
    w.channels = ceil_div(s.channels, w.chunks)
    w.step = ceil_div(w.channels, ceil_div(w.channels, w.step))
    limit = PANEL_VECTORS
    if w.chunks > 1 and s.tap_count == 1:  # the weight is small: rather read it for more blocks than x for more parts
        limit = max(2 * w.vectors, min(limit, PANEL_SUMS // (s.outputs * LANES)))
    w.blocks = ceil_div(vectors, limit)
    w.block = ceil_div(ceil_div(vectors, w.blocks), w.vectors) * w.vectors
    w.blocks = ceil_div(vectors, w.block)
    w.parts = max(1, min(s.outputs // PART_OUTPUTS, ceil_div(TASKS, s.groups * w.blocks)))
    if w.chunks > 1:
        w.parts = max(w.parts, ceil_div(s.outputs * w.block * LANES, PANEL_SUMS))
    w.outputs = ceil_div(ceil_div(s.outputs, w.parts), w.rows) * w.rows
    w.parts = ceil_div(s.outputs, w.outputs)
    w.runs = min(w.blocks, ceil_div(TASKS, s.groups * w.parts))
    w.sums_row = (w.block if w.chunks > 1 else <Py_ssize_t>w.vectors) * LANES
    w.panel_size = w.channels * s.tap_count * w.block * LANES
    w.sums_size = (w.outputs if w.chunks > 1 else <Py_ssize_t>w.rows) * w.sums_row + LANES
    w.segments = w.block * LANES


cdef bint panel_pays(const Panel* w) noexcept nogil:
    """Whether the panel takes fewer cycles than the planned sweep: two vectors of sums a cycle, and the copies."""
    cdef const Sweep* s = w.s
    cdef double sweep, panel, segment = max(1, <double>LANES / s.grid_w)
    if s.tap_count > PANEL_TAPS:
        return False
    if s.tap_count == 1:
        return s.outputs >= 3 * LANES
    sweep = <double>s.images * s.bands * vectors_of(s, s.layout, s.band_rows) * s.outputs / 2 + 3 * s.outputs
    panel = ceil_div(w.pixels, LANES) * (s.outputs / 2 + w.parts * (4 + 4 * segment))
    return panel < sweep


cdef Py_ssize_t add_segment(
    Segment* segments, Py_ssize_t count, Py_ssize_t place, Py_ssize_t start, Py_ssize_t length, Py_ssize_t step,
    Py_ssize_t lanes,
) noexcept nogil:
    """Append pixels `step` apart, joined to those before where they can be, cut where a tile ends; the new count."""
    cdef Py_ssize_t taken
    cdef Segment* last
    while length > 0:
        taken = min(length, lanes - place % lanes)
        last = segments + count - 1
        if (
            count > 0 and place % lanes != 0 and last.place + last.count == place
            and last.start + last.count * step == start
        ):
            last.count += taken
        else:
            segments[count] = Segment(place, start, taken, 0, 0)
            count += 1
        place += taken
        start += taken * step
        length -= taken
    return count


cdef Py_ssize_t place_segments(const Panel* w, Segment* segments, Py_ssize_t count, Py_ssize_t total) noexcept nogil:
    """Find the segments their places in a panel that is `total` vectors wide; the pixels that they have."""
    cdef Py_ssize_t lanes = w.vectors * LANES, pixels = 0, i, v
    for i in range(count):
        pixels += segments[i].count
        # Tile after tile; in each, the vectors of one (channel, tap), then the next. The last tile may be narrower.
        v = segments[i].place // lanes
        segments[i].width = min(lanes, (total - v * w.vectors) * LANES)
        segments[i].first = v * lanes * (w.channels * w.s.tap_count) + segments[i].place - v * lanes
    return pixels


cdef Py_ssize_t list_segments(
    const Panel* w, const Tap* tap, Py_ssize_t first, Py_ssize_t count, Segment* segments,
) noexcept nogil:
    """Where pixels first .. first + count lie: what a tap of the source meets, or, without a tap, the target."""
    cdef const Sweep* s = w.s
    cdef const Planes* planes = &s.planes
    cdef Py_ssize_t lanes = w.vectors * LANES, done = 0, found = 0, image, i, j, length, row, column, low, high
    while done < count:
        image = (first + done) // (s.grid_h * s.grid_w)
        i = (first + done) // s.grid_w - image * s.grid_h
        j = (first + done) % s.grid_w
        length = min(s.grid_w - j, count - done)
        if tap == NULL:
            found = add_segment(
                segments, found, done,
                image * s.groups * s.outputs * s.target_plane + i * s.target_row + j * s.target_column, length,
                s.target_column, lanes,
            )
        else:
            row = (i + tap.row) * planes.stride_h + planes.phase_row[tap.phase] - planes.top
            column = tap.column * planes.stride_w + planes.phase_column[tap.phase] - planes.left
            if 0 <= row < planes.height:
                # columns low .. high meet the image
                low = max(j, 0 if column >= 0 else ceil_div(-column, planes.stride_w))
                high = ceil_div(planes.width - column, planes.stride_w) if planes.width > column else 0
                high = min(j + length, high)
                found = add_segment(
                    segments, found, done + low - j,
                    (image * s.groups * s.channels * planes.height + row) * planes.width
                    + column + low * planes.stride_w,
                    high - low, planes.stride_w, lanes,
                )
        done += length
    return found


cdef void fill_panel(
    const Panel* w, const real* source, Py_ssize_t channels, Segment* segments, const Py_ssize_t* found, real* panel,
) noexcept nogil:
    """Copy what the taps of some channels meet; the padding between holds its zeros already."""
    cdef const Sweep* s = w.s
    cdef Py_ssize_t p = 0, c, t, i
    cdef Segment* piece
    for c in range(channels):
        for t in range(s.tap_count):
            piece = segments + t * w.segments
            for i in range(found[t]):
                copy_strided(
                    panel + piece.first + p * piece.width, source + piece.start, piece.count, s.planes.stride_w
                )
                piece += 1
            p += 1
        source += s.planes.height * s.planes.width


cdef inline void prefetch_rows(
    const Segment* pieces, Py_ssize_t count, Py_ssize_t step, const real* rows, Py_ssize_t row_step,
    Py_ssize_t row_count,
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(row_count):
        for j in range(count):
            vprefetch(rows + i * row_step + pieces[j].start, 1 + (pieces[j].count - 1) * step)


cdef void panel_task(const Panel* w, Py_ssize_t task, real* workspace, Segment* segments) noexcept nogil:
    """A run of blocks of pixels of one group, for one part of the output channels.

    Memory works while the processor does: before each tile, its share of the pixels that the next panel will hold
    is asked for.
    """
    cdef const Sweep* s = w.s
    cdef Py_ssize_t part = task % w.parts
    cdef Py_ssize_t run = task // w.parts % w.runs
    cdef Py_ssize_t group = task // (w.parts * w.runs)
    cdef Py_ssize_t first_output = part * w.outputs
    cdef Py_ssize_t outputs = min(w.outputs, s.outputs - first_output)
    cdef Py_ssize_t row_step = ceil_div(outputs, ceil_div(outputs, w.rows))
    cdef Py_ssize_t image_size = s.planes.height * s.planes.width
    cdef Py_ssize_t lanes = w.vectors * LANES
    cdef const real* weight = w.weight + group * w.group_step + first_output * w.output_step
    cdef const real* source = s.source + group * s.channels * image_size
    cdef real* target = s.target + (group * s.outputs + first_output) * s.target_plane
    cdef const real* bias = w.init + group * s.outputs + first_output
    cdef real* panel = workspace
    cdef real* all_sums = workspace + w.panel_size
    cdef real* sums
    cdef real* row
    cdef Segment* middle = segments + s.tap_count // 2 * w.segments
    cdef Segment* ahead = segments + s.tap_count * w.segments
    cdef Segment* stored = ahead + w.segments
    cdef Py_ssize_t[PANEL_TAPS] found
    cdef Py_ssize_t block, last_block = (run + 1) * w.blocks // w.runs
    cdef Py_ssize_t first, count, total, slices, next_first, aheads, stores
    cdef Py_ssize_t[PANEL_VECTORS + 1] store    # the first segment to store of each slice of `vectors` vectors
    cdef real* result
    cdef Py_ssize_t result_row, p
    cdef Py_ssize_t c, channels, depth, next_channels, tiles, tile, k, v, rows, width, i, j
    cdef bint last, padded, whole
    for block in range(run * w.blocks // w.runs, last_block):
        first = block * w.block * LANES
        count = min(w.block * LANES, w.pixels - first)
        total = ceil_div(count, LANES)
        padded = False
        for i in range(s.tap_count):
            found[i] = list_segments(w, s.taps + i, first, count, segments + i * w.segments)
            padded = place_segments(w, segments + i * w.segments, found[i], total) < count or padded
        if padded:
            memset(panel, 0, w.panel_size * sizeof(real))
        stores = list_segments(w, NULL, first, count, stored)
        next_first = first + w.block * LANES
        aheads = 0
        if block + 1 < last_block:
            aheads = list_segments(
                w, s.taps + s.tap_count // 2, next_first, min(w.block * LANES, w.pixels - next_first), ahead
            )
        slices = ceil_div(total, w.vectors)
        tiles = slices * ceil_div(outputs, row_step)
        store[0] = 0
        for v in range(slices):
            store[v + 1] = store[v]
            while store[v + 1] < stores and stored[store[v + 1]].place < (v + 1) * lanes:
                store[v + 1] += 1
        c = 0
        while c < s.channels:
            channels = min(w.channels, s.channels - c)
            depth = channels * s.tap_count
            last = c + channels == s.channels
            next_channels = min(w.channels, s.channels - c - channels) if not last else w.channels
            fill_panel(w, source + c * image_size, channels, segments, found, panel)
            for tile in range(tiles):
                if last:  # along the rows of the result
                    k = tile // slices * row_step
                    v = tile % slices
                else:     # the panel's slice stays in the first-level cache
                    v = tile // (tiles // slices)
                    k = tile % (tiles // slices) * row_step
                rows = min(row_step, outputs - k)
                row = target + k * s.target_plane
                width = min(<Py_ssize_t>w.vectors, total - v * w.vectors)
                sums = all_sums + (k * w.sums_row + v * lanes if w.chunks > 1 else 0)
                i = tile * next_channels // tiles
                j = (tile + 1) * next_channels // tiles
                if last:
                    prefetch_rows(ahead, aheads, s.planes.stride_w, source + i * image_size, image_size, j - i)
                else:
                    prefetch_rows(
                        middle, found[s.tap_count // 2], s.planes.stride_w,
                        source + (c + channels + i) * image_size, image_size, j - i,
                    )
                CHECK_BOUNDS(0, v * lanes * w.channels * s.tap_count + depth * width * LANES, w.panel_size)
                CHECK_BOUNDS(
                    sums - all_sums, sums - all_sums + (rows - 1) * w.sums_row + width * LANES, w.sums_size
                )
                # The result takes whole vectors as they are, where neighbours lie side by side.
                whole = (
                    last and s.activation == LINEAR and s.target_column == 1
                    and stored[store[v]].count == width * LANES
                )
                p = 0
                while p < channels:
                    i = min(w.step, channels - p)
                    if p + i == channels and whole:
                        result = row + stored[store[v]].start
                        result_row = s.target_plane
                    else:
                        result = sums
                        result_row = w.sums_row
                    gathered_tile(
                        <int>width, <int>rows, i * s.tap_count,
                        weight + k * w.output_step + (c + p) * w.channel_step, w.place, w.offset,
                        panel + v * lanes * w.channels * s.tap_count + p * s.tap_count * width * LANES,
                        bias + k if c + p == 0 else NULL, sums, w.sums_row, result, result_row,
                    )
                    p += i
                if last and not whole:
                    for i in range(rows):
                        for j in range(store[v], store[v + 1]):
                            store_run(
                                s, sums + i * w.sums_row + stored[j].place - v * lanes,
                                row + i * s.target_plane + stored[j].start, stored[j].count,
                            )
            c += channels


cdef int run_panel(Panel* w, int threads) noexcept nogil:
    """Run every task of a planned panel; -1 where memory is short."""
    cdef const Sweep* s = w.s
    cdef Py_ssize_t tasks = s.groups * w.runs * w.parts, task, t, c, thread_size, segments, team
    cdef real* workspace
    cdef Segment* pieces
    cdef void* memory
    team = team_size(
        <double>w.pixels * s.groups * s.outputs * s.channels * s.tap_count, tasks, threads
    )
    thread_size = whole_vectors(w.panel_size + w.sums_size)
    segments = (s.tap_count + 2) * w.segments
    memory = malloc((team * thread_size + s.groups * s.outputs) * sizeof(real) + CACHE_LINE)
    pieces = <Segment*>malloc(team * segments * sizeof(Segment))
    w.place = <Py_ssize_t*>malloc((w.step * s.tap_count + w.rows) * sizeof(Py_ssize_t))
    if memory != NULL and pieces != NULL and w.place != NULL:
        workspace = aligned(memory)
        w.init = workspace + team * thread_size
        for t in range(s.groups * s.outputs):
            w.init[t] = w.bias[t] if w.bias != NULL else 0
        for c in range(w.step):
            for t in range(s.tap_count):
                w.place[c * s.tap_count + t] = c * w.channel_step + s.taps[t].index
        w.offset = w.place + w.step * s.tap_count
        for t in range(w.rows):
            w.offset[t] = t * w.output_step
        if team == 1:
            for task in range(tasks):
                panel_task(w, task, workspace, pieces)
        else:
            for task in prange(tasks, num_threads=team, schedule="dynamic"):
                panel_task(w, task, workspace + threadid() * thread_size, pieces + threadid() * segments)
    t = 0 if memory != NULL and pieces != NULL and w.place != NULL else -1
    free(memory)
    free(pieces)
    free(w.place)
    return <int>t
