# The sweep: one stride-1 walk of the micro-kernel over the padded planes of every image.
#
# It is forward convolution and, with other taps, gradient of the input. `plan_sweep` cuts the work into tasks
# and chooses the tile from the shape alone; `sweep_task` computes one band of rows of one image.
# Included by conv2d.pyx.

cdef enum:
    RUNNING = 0
    BY_ROW = 1
    TWO_ROWS = 2

cdef struct Residue:            # the target's pixels at every s-th row and column from one on, and the taps they meet
    Tap* taps
    Py_ssize_t tap_count
    Py_ssize_t first            # taps of the residues before
    Py_ssize_t row
    Py_ssize_t column

cdef struct Piece:              # neighbours of a row that lie in one tile and are stored together
    Py_ssize_t place            # in each row of the tile
    Py_ssize_t target           # in each plane of the target
    int count

cdef struct Region:             # memory that the next copy will read or the next stores will write
    const real* start
    Py_ssize_t piece            # neighbours,
    Py_ssize_t step             # from the first of them to the next piece's,
    Py_ssize_t size             # and all of them

cdef struct Sweep:
    # source
    Planes planes               # of one band
    const real* source
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t channels         # summed over, of one group
    Py_ssize_t chunk            # channels copied at a time
    bint in_place               # the image is its own plane
    bint split                  # the two column phases of a row are copied together
    Py_ssize_t tap_count        # of all residues, one after the other
    Tap* taps
    Py_ssize_t* offset          # [residue][channel of a chunk][tap]
    Py_ssize_t residue_count
    Residue* residues
    bint pairs                  # each two residues are neighbours in a row of the target and stored together
    # weights and bias, packed for the tile
    Py_ssize_t outputs          # of one group
    Py_ssize_t blocks
    int rows
    int vectors
    real* packed                # [group][block][residue][channel][tap][row]
    real* init                  # [group][block][row]
    # destination: a grid of pixels in each output plane
    real* target
    Py_ssize_t target_h
    Py_ssize_t target_w
    Py_ssize_t target_stride_h
    Py_ssize_t grid_h           # of the first residue
    Py_ssize_t grid_w
    Py_ssize_t target_plane
    Py_ssize_t target_row       # from one row of the grid to the next
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
    Py_ssize_t tasks
    Py_ssize_t plane_size
    Py_ssize_t reach            # the largest offset
    Py_ssize_t planes_size      # workspace of one thread: planes, then sums
    Py_ssize_t sums_size
    Py_ssize_t sums_start       # from a tile's sums to those of the next vectors, block and residue,
    Py_ssize_t sums_block
    Py_ssize_t sums_residue
    Py_ssize_t sums_kept        # of so many residues


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
    cdef Py_ssize_t tile, blocks, deepest = 0
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
            s.chunk = ceil_div(s.channels, ceil_div(s.channels, s.chunk))
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
    s.tasks = tasks * s.bands
    s.parts = min(s.blocks, ceil_div(TASKS, s.tasks)) if s.tasks < TASKS else 1
    s.tasks *= s.parts
    s.plane_size = s.planes.rows * s.planes.pitch
    if s.in_place:
        s.plane_size = s.planes.height * s.planes.width
        s.planes_size = 0
    else:
        s.planes_size = whole_vectors(s.chunk * s.planes.phases * s.plane_size + lanes + s.planes.pitch)
    # Sums that wait for other channels, for the rest of a long sum, or for the pixels beside them.
    for t in range(s.residue_count):
        deepest = max(deepest, s.residues[t].tap_count)
    tile = s.rows * lanes
    blocks = ceil_div(s.blocks, s.parts)
    s.sums_start = 0
    s.sums_kept = 1
    if s.chunk < s.channels:
        s.sums_start = tile
        s.sums_block = ceil_div(band_vectors, s.vectors) * tile
        s.sums_kept = s.residue_count
    elif s.pairs or s.channels * deepest > DEPTH:
        s.sums_block = tile
        s.sums_kept = 2 if s.pairs else 1
    else:
        s.sums_block = 0
    s.sums_residue = blocks * s.sums_block
    s.sums_size = max(s.sums_kept * s.sums_residue, tile) + LANES  # whole vectors
    return 0


cdef void pack_weight(
    const Sweep* s, const real* weight, Py_ssize_t output_step, Py_ssize_t channel_step, Py_ssize_t block,
    real* packed,
) noexcept nogil:
    """One block of output rows: the `rows` weights of each (residue, channel, tap) side by side, zeros past the end."""
    cdef Py_ssize_t first = block * s.rows, count = min(<Py_ssize_t>s.rows, s.outputs - block * s.rows), r, c, t, i
    cdef const real* source
    for r in range(s.residue_count):
        for c in range(s.channels):
            for t in range(s.residues[r].tap_count):
                source = weight + first * output_step + c * channel_step + s.residues[r].taps[t].index
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


cdef inline Py_ssize_t add_piece(
    const Sweep* s, const Residue* residue, Py_ssize_t row, Py_ssize_t column, Py_ssize_t place, Py_ssize_t length,
    Piece* pieces, Py_ssize_t found,
) noexcept nogil:
    """Append pixels of one row of a residue's grid, cut where vectors end; the new count."""
    cdef Py_ssize_t taken
    while length > 0:
        taken = min(length, <Py_ssize_t>LANES)
        pieces[found].place = place
        pieces[found].target = (
            residue.row * s.target_w + residue.column + row * s.target_row + column * s.target_column
        )
        pieces[found].count = <int>(min(2 * taken, s.target_w - 2 * column) if s.pairs else taken)
        found += 1
        place += taken
        column += taken
        length -= taken
    return found


cdef Py_ssize_t list_pieces(
    const Sweep* s, const Residue* residue, Py_ssize_t first_row, Py_ssize_t rows, Py_ssize_t start,
    Py_ssize_t vectors, Piece* pieces,
) noexcept nogil:
    """Where `vectors` vectors of a band are stored, without the pixels that lie in the padding.

    `start` is the first pixel in the running layout, else the first vector.
    """
    cdef Py_ssize_t columns = ceil_div(s.target_w - residue.column, s.target_column), found = 0
    cdef Py_ssize_t j = 0, row, column, length
    rows = min(rows, ceil_div(s.target_h - residue.row, s.target_stride_h) - first_row)
    if s.layout == RUNNING:
        while j < vectors * LANES:
            row = (start + j) // s.planes.pitch
            column = (start + j) - row * s.planes.pitch
            if row >= rows:
                break
            length = s.planes.pitch - column
            if column < columns:
                found = add_piece(
                    s, residue, first_row + row, column, j, min(columns - column, vectors * LANES - j), pieces, found
                )
            j += length
    elif s.layout == BY_ROW:
        for j in range(vectors):
            row = (start + j) // s.row_vectors
            column = ((start + j) - row * s.row_vectors) * LANES
            if row < rows:
                length = min(<Py_ssize_t>LANES, columns - column)
                found = add_piece(s, residue, first_row + row, column, j * LANES, length, pieces, found)
    else:
        for j in range(2 * vectors):
            if 2 * start + j < rows:
                found = add_piece(
                    s, residue, first_row + 2 * start + j, 0, j * (LANES // 2), columns, pieces, found
                )
    return found


cdef void store_tile(
    const Sweep* s, const real* sums, const real* others, Py_ssize_t count, const Piece* pieces, Py_ssize_t found,
    real* target,
) noexcept nogil:
    """Activate and store the pieces of every row of a tile, in turn with those of the residue beside it."""
    cdef Py_ssize_t i, k, row = s.vectors * LANES, plane = s.target_plane, place
    cdef int n
    cdef real* pixels
    for k in range(found):
        place = pieces[k].place
        pixels = target + pieces[k].target
        n = pieces[k].count
        if s.pairs:
            for i in range(count):
                vstore_in_turn(pixels + i * plane, vload(others + place + i * row), vload(sums + place + i * row), n)
        elif s.target_column > 1 or s.activation != LINEAR:
            for i in range(count):
                store_run(s, sums + place + i * row, pixels + i * plane, n)
        elif n == LANES:
            for i in range(count):
                vstore(pixels + i * plane, vload(sums + place + i * row))
        else:
            for i in range(count):
                vstore_partial(pixels + i * plane, vload(sums + place + i * row), n)


cdef void sweep_tile(
    const Sweep* s, Py_ssize_t depth, const real* packed, const real* planes, const Py_ssize_t* offset,
    const Py_ssize_t* place, real* sums, const real* init, const real* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    """A function of its own: a tile needs every register, and what surrounds it would keep some."""
    if s.layout == TWO_ROWS:
        run_tile(
            s.vectors, True, s.rows, depth, packed, planes, offset, place, s.planes.pitch, sums, init, ahead, ahead_step
        )
    else:
        run_tile(s.vectors, False, s.rows, depth, packed, planes, offset, place, 0, sums, init, ahead, ahead_step)


cdef inline void rows_of_source(
    const Sweep* s, const real* source, Py_ssize_t channels, Py_ssize_t first_row, Region* region,
) noexcept nogil:
    """What the copy of a band reads of so many planes."""
    cdef Py_ssize_t low = max(0, first_row * s.planes.stride_h - s.planes.top)
    cdef Py_ssize_t high = min(s.planes.height, (first_row + s.planes.rows) * s.planes.stride_h - s.planes.top)
    region.start = source + low * s.planes.width
    region.piece = max(1, (high - low) * s.planes.width)
    region.step = s.planes.height * s.planes.width
    region.size = channels * region.piece


cdef inline void rows_of_target(const Sweep* s, Py_ssize_t task, Region* region) noexcept nogil:
    """What a task will store."""
    cdef Py_ssize_t low = task // s.parts % s.bands * s.band_rows * s.target_stride_h
    cdef Py_ssize_t high = min(s.target_h, low + s.band_rows * s.target_stride_h)
    region.start = s.target + task // (s.parts * s.bands) * s.outputs * s.target_plane + low * s.target_w
    region.piece = max(1, (high - low) * s.target_w)
    region.step = s.target_plane
    region.size = s.outputs * region.piece


cdef inline const real* line_of(const Region* region, Py_ssize_t i) noexcept nogil:
    return region.start + (i // region.piece * region.step + i % region.piece if i < region.size else 0)


cdef void sweep_task(const Sweep* s, Py_ssize_t task, Py_ssize_t next_task, real* workspace) noexcept nogil:
    """One band of one image and group, for one part of the output channels.

    Memory works while the processor does: every step of a tile asks for its share of what the next copy will read.
    """
    cdef Py_ssize_t part = task % s.parts
    cdef Py_ssize_t band = task // s.parts % s.bands
    cdef Py_ssize_t image = task // (s.parts * s.bands)     # and group
    cdef Py_ssize_t first_row = band * s.band_rows
    cdef Py_ssize_t rows = min(s.band_rows, s.grid_h - first_row)
    cdef Py_ssize_t pixels = (rows - 1) * s.planes.pitch + s.grid_w
    cdef Py_ssize_t first_block = part * s.blocks // s.parts
    cdef Py_ssize_t last_block = (part + 1) * s.blocks // s.parts
    cdef Py_ssize_t lanes = s.vectors * LANES
    cdef Py_ssize_t image_size = s.planes.height * s.planes.width
    cdef const real* source = s.source + image * s.channels * image_size
    cdef real* target = s.target + image * s.outputs * s.target_plane
    cdef const real* packed = s.packed + image % s.groups * s.blocks * s.channels * s.tap_count * s.rows
    cdef const real* init = s.init + image % s.groups * s.blocks * s.rows
    cdef real* all_sums = workspace + s.planes_size
    cdef real* sums
    cdef const real* planes = workspace
    cdef const real* ahead
    cdef const Residue* residue
    cdef Region region, stores
    cdef Piece[VECTORS_MAX * LANES] pieces
    cdef Py_ssize_t total = vectors_of(s, s.layout, rows)
    cdef Py_ssize_t c = 0, channels, depth, start, first, p, step, block, v, r, found = 0, asked, ahead_step
    cdef Py_ssize_t[VECTORS_MAX] place
    cdef bint last
    cdef int j
    while c < s.channels:
        channels = min(s.chunk, s.channels - c)
        if s.in_place:
            planes = source + first_row * s.planes.width
        else:
            # The workspace is cleared before the first task, and where an image is one band all have the same padding.
            copy_band(
                &s.planes, s.split, source + c * image_size, channels, first_row, workspace, s.plane_size,
                ALL_PADDING if s.bands == 1 else SIDE_PADDING,
            )
        if c + channels < s.channels:
            rows_of_source(
                s, source + (c + channels) * image_size, min(s.chunk, s.channels - c - channels), first_row, &region
            )
        else:
            rows_of_source(
                s, s.source + next_task // (s.parts * s.bands) * s.channels * image_size, s.chunk,
                next_task // s.parts % s.bands * s.band_rows, &region,
            )
        rows_of_target(s, next_task, &stores)
        asked = 0
        ahead_step = ceil_div(
            region.size + stores.size, ceil_div(total, s.vectors) * (last_block - first_block) * channels * s.tap_count
        )
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
            for r in range(s.residue_count):
                residue = s.residues + r
                if c + channels == s.channels and (not s.pairs or r % 2 == 0):
                    found = list_pieces(
                        s, residue, first_row, rows, first,
                        s.vectors if s.layout == RUNNING else min(<Py_ssize_t>s.vectors, total - start), pieces,
                    )
                depth = channels * residue.tap_count
                step = ceil_div(depth, ceil_div(depth, DEPTH))
                p = 0
                while p < depth:
                    last = c + channels == s.channels and p + step >= depth and (not s.pairs or r % 2 == 1)
                    for block in range(first_block, last_block):
                        sums = (
                            all_sums + start // s.vectors * s.sums_start + (block - first_block) * s.sums_block
                            + r % s.sums_kept * s.sums_residue
                        )
                        CHECK_BOUNDS(sums - all_sums, sums - all_sums + s.rows * lanes, s.sums_size)
                        if asked < region.size:
                            ahead = line_of(&region, asked)
                        else:
                            ahead = line_of(&stores, asked - region.size)
                        asked += ahead_step * min(step, depth - p)
                        sweep_tile(
                            s, min(step, depth - p),
                            packed + (
                                (block * s.tap_count + residue.first) * s.channels + c * residue.tap_count + p
                            ) * s.rows,
                            planes, s.offset + s.chunk * residue.first + p, &place[0], sums,
                            init + block * s.rows if c == 0 and p == 0 else NULL, ahead, ahead_step,
                        )
                        if last:
                            store_tile(
                                s, sums, sums - s.sums_residue, min(<Py_ssize_t>s.rows, s.outputs - block * s.rows),
                                pieces, found, target + block * s.rows * s.target_plane,
                            )
                    p += step
            start += s.vectors
        c += channels


cdef int run_sweep(
    Sweep* s, const real* weight, Py_ssize_t output_step, Py_ssize_t channel_step, Py_ssize_t group_step,
    const real* bias, int threads,
) noexcept nogil:
    """Pack, and run every task of a planned sweep; -1 where memory is short."""
    cdef Py_ssize_t task, block, depth, packed_size, init_size, thread_size, position, c, t, r, i = 0
    cdef double work
    cdef int team, packers
    cdef void* memory
    depth = s.channels * s.tap_count
    work = <double>s.images * s.groups * s.outputs * depth * s.grid_h * s.grid_w
    team = team_size(work, s.tasks, threads)
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
    for r in range(s.residue_count):
        for c in range(s.chunk):
            for t in range(s.residues[r].tap_count):
                position = (
                    (c * s.planes.phases + s.residues[r].taps[t].phase) * s.plane_size
                    + s.residues[r].taps[t].row * s.planes.pitch + s.residues[r].taps[t].column
                )
                s.offset[i] = position
                s.reach = max(s.reach, position)
                i += 1
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
        for task in range(s.tasks):
            sweep_task(s, task, min(task + 1, s.tasks - 1), s.init + init_size)
    else:
        for block in prange(s.groups * s.blocks, num_threads=packers, schedule="static"):
            pack_weight(
                s, weight + block // s.blocks * group_step, output_step, channel_step, block % s.blocks,
                s.packed + block * depth * s.rows,
            )
        # Small work keeps an image on the core that has it in its cache; in large work whoever is free takes the
        # next task, in case another program holds a core.
        if work < LARGE_WORK:
            for task in prange(s.tasks, num_threads=team, schedule="static"):
                sweep_task(
                    s, task, min(task + 1, s.tasks - 1), s.init + init_size + threadid() * thread_size
                )
        else:
            for task in prange(s.tasks, num_threads=team, schedule="dynamic"):
                sweep_task(
                    s, task, min(task + team, s.tasks - 1), s.init + init_size + threadid() * thread_size
                )
    free(memory)
    free(s.offset)
    return 0
