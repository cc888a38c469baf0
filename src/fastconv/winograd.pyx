"""Winograd's minimal filtering F(2x2, 3x3): 3x3 convolutions of stride 1 with 16 products where the direct way has 36.

    forward                 Y  = A^T [sum over c of (G g G^T) * (B^T d B)] A
    gradient of the weight  dg = G^T [sum over tiles of (A dY A^T) * (B^T d B)] G
    gradient of the input   the forward pass over grad_output with transposed, turned filters

for every tile of 2 x 2 outputs Y and 4 x 4 inputs d, `*` by element (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2015). With the last rows of B^T and A^T negated, which changes no product,

    B^T = 1  0 -1  0     G = 1    0    0      A^T = 1  1  1  0
          0  1  1  0         1/2  1/2  1/2          0  1 -1  1
          0 -1  1  0         1/2 -1/2  1/2
          0 -1  0  1         0    0    1

The way of the data: a block of tile rows is copied channels-last, lanes being channels; the transforms are then sums
of whole vectors whatever the size of an image, and the 16 products of a block are matrix products (product.pxd) over
channels, or over tiles for the gradient of the weight.

    x -> channels_last -> transform_input -> V[product][tile][channel]
    weight -> transform_weight -> U[outputs][product][channel][output]
    V, U -> run_products -> M[product][tile][output] -> transform_output -> store_rows -> y

With a dilation, the rows and columns of a tile lie so far apart: each row_step-th row of an image is an image of its
own, and among the columns that were copied each column_step-th one is the next.

A NaN or an infinity in d would reach outputs of the tile that do not depend on it. But it makes every product it
enters, and so every output it reaches, NaN or infinite: the images in which an output is not finite are named, and
the caller computes them the direct way. Overflow within the transforms is found by the same test.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memset

cimport numpy as cnp

from fastconv.geometry cimport ceil_div
from fastconv.parallel cimport team_size
from fastconv.product cimport run_product
from fastconv.simd cimport (
    CACHE_LINE, CHECK_BOUNDS, LANES, PANEL_VECTORS, TILE_ROWS_1, VECTOR_REGISTERS, aligned, real, vactivate, vload,
    vload_once, vload_partial, vreal, vset, vstore, vstore_partial, vstore_some, vsum, vtranspose, vtranspose_block,
    whole_vectors,
)
from fastconv.tile cimport DEPTH, tile_rows

cnp.import_array()

cdef enum:
    TAPS = 9
    PRODUCTS = 16
    LANES_MAX = 16
    FEW = 16                    # channels, and tiles, whose product needs no loads but of V
    FEW_ROWS = 8
    BLOCK_ELEMENTS = 131072     # transformed numbers in a block of more than FEW_TILES (512 KiB of float32)
    FEW_TILES = 64              # of a block: the filters are read once for so many
    MANY_TILES = 128
    TASKS = 16                  # tasks to aim at, so that a few threads share evenly
    OUTPUTS = 128               # channels of one task where there are too few blocks for many tasks
    PARTIAL_ELEMENTS = 1048576  # bound on all partial weight gradients together

cdef struct Plan:
    Py_ssize_t images
    Py_ssize_t in_channels
    Py_ssize_t out_channels
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t out_height
    Py_ssize_t out_width
    Py_ssize_t top
    Py_ssize_t left
    Py_ssize_t row_step         # dilation
    Py_ssize_t column_step
    Py_ssize_t channels         # in whole vectors
    Py_ssize_t outputs
    Py_ssize_t tile_rows        # of each row_step-th row of an image
    Py_ssize_t tile_columns     # of each column_step-th column, one after the other
    Py_ssize_t rows             # tile rows in all
    Py_ssize_t block_rows       # tile rows of a block, which may hold several images and parts of them
    Py_ssize_t blocks
    Py_ssize_t tiles            # of a whole block
    Py_ssize_t pitch            # pixels of a copied row
    Py_ssize_t pixels_size      # workspace: the copied rows of a block's largest piece of one image


cdef struct Piece:
    Py_ssize_t image
    Py_ssize_t first            # row of the image's outputs; the next one is row_step further on
    Py_ssize_t tile_rows
    Py_ssize_t rows             # of outputs, without those past the image


cdef void plan_blocks(Plan* w, Py_ssize_t tile_elements, Py_ssize_t elements) noexcept nogil:
    """Cut the tile rows of all images into blocks of at most `elements` transformed numbers, from the shape alone."""
    w.tile_rows = ceil_div(ceil_div(w.out_height, w.row_step), 2)
    w.tile_columns = w.column_step * ceil_div(ceil_div(w.out_width, w.column_step), 2)
    w.pitch = 2 * (w.tile_columns + w.column_step)
    w.rows = w.images * w.row_step * w.tile_rows
    w.block_rows = max(FEW_TILES, min(MANY_TILES, elements // tile_elements)) // w.tile_columns
    w.block_rows = min(w.block_rows, max(ceil_div(w.rows, TASKS), ceil_div(FEW_TILES, w.tile_columns)))
    w.blocks = ceil_div(w.rows, max(1, w.block_rows))
    w.block_rows = ceil_div(w.rows, w.blocks)
    w.blocks = ceil_div(w.rows, w.block_rows)
    w.tiles = w.block_rows * w.tile_columns
    w.pixels_size = ((2 * min(w.block_rows, w.tile_rows) + 2) * w.pitch + LANES) * LANES


cdef Piece piece_at(const Plan* w, Py_ssize_t row, Py_ssize_t last) noexcept nogil:
    """What lies in one image, or in each row_step-th row of it, of the tile rows from `row` to `last`."""
    cdef Piece piece
    cdef Py_ssize_t part = row // w.tile_rows, i = row % w.tile_rows
    piece.image = part // w.row_step
    piece.first = part % w.row_step + 2 * i * w.row_step
    piece.tile_rows = min(w.tile_rows - i, last - row)
    piece.rows = min(2 * piece.tile_rows, ceil_div(w.out_height - piece.first, w.row_step))
    return piece


cdef inline double work_of(const Plan* w) noexcept nogil:
    """Multiply-adds of the direct way."""
    return <double>w.images * w.out_channels * w.in_channels * TAPS * w.out_height * w.out_width


# ---- copies and transforms ----------------------------------------------------------------------------

cdef void channels_last(
    const real* image, int channels, Py_ssize_t height, Py_ssize_t width, Py_ssize_t first_row, Py_ssize_t row_step,
    Py_ssize_t rows, Py_ssize_t left, Py_ssize_t pitch, real* pixels,
) noexcept nogil:
    """Up to LANES channels of some rows, row_step apart, [row][column][lane], with zeros around the image.

    Lanes past the last channel repeat it. Up to LANES - 1 pixels past the last row are written.
    """
    cdef vreal[LANES_MAX] v
    cdef Py_ssize_t i, j, row, size = height * width
    cdef Py_ssize_t covered = min(width, pitch - left)
    cdef const real* source
    cdef real* target
    cdef int c, count
    for i in range(rows):
        row = first_row + i * row_step
        target = pixels + i * pitch * LANES
        if row < 0 or row >= height:
            memset(target, 0, pitch * LANES * sizeof(real))
            continue
        memset(target, 0, left * LANES * sizeof(real))
        target += left * LANES
        j = 0
        while j < covered:
            source = image + row * width + j
            if channels == LANES and row * width + j + LANES <= size:   # pixels past the row are overwritten
                vtranspose_block(source, size, target + j * LANES, LANES)
            else:
                count = <int>min(<Py_ssize_t>LANES, covered - j)
                for c in range(LANES):
                    v[c] = vload_partial(source + min(c, channels - 1) * size, count)
                vtranspose(v)
                for c in range(LANES):
                    vstore(target + (j + c) * LANES, v[c])
            j += LANES
        memset(target + covered * LANES, 0, (pitch - left - covered) * LANES * sizeof(real))


cdef inline void input_column(const real* pixel, Py_ssize_t row, vreal* out) noexcept nogil:
    """B^T of one column of four pixels."""
    cdef vreal a = vload(pixel), b = vload(pixel + row), c = vload(pixel + 2 * row), d = vload(pixel + 3 * row)
    out[0] = a - c
    out[1] = b + c
    out[2] = c - b
    out[3] = d - b


cdef void transform_input(
    const Plan* plan, const real* pixels, Py_ssize_t rows, real* v, Py_ssize_t tile_step, Py_ssize_t product_step,
) noexcept nogil:
    """B^T d B of every tile, one vector of channels."""
    cdef vreal[4] a
    cdef vreal[4] b
    cdef vreal[4] c
    cdef vreal[4] d
    cdef Py_ssize_t i, _tile, row = plan.pitch * LANES, step = plan.column_step * LANES
    cdef Py_ssize_t columns = plan.tile_columns // plan.column_step
    cdef const real* pixel
    cdef real* target
    cdef int p
    for i in range(rows * plan.column_step):
        pixel = pixels + i // plan.column_step * 2 * row + i % plan.column_step * LANES
        input_column(pixel, row, a)
        input_column(pixel + step, row, b)
        for _tile in range(columns):
            pixel += 2 * step
            input_column(pixel, row, c)
            input_column(pixel + step, row, d)
            target = v
            for p in range(4):
                vstore(target, a[p] - c[p])
                vstore(target + product_step, b[p] + c[p])
                vstore(target + 2 * product_step, c[p] - b[p])
                vstore(target + 3 * product_step, d[p] - b[p])
                target += 4 * product_step
                a[p] = c[p]
                b[p] = d[p]
            v += tile_step


cdef inline void gradient_products(vreal a, vreal b, real* target, Py_ssize_t product_step) noexcept nogil:
    """A of two neighbours."""
    vstore(target, a)
    vstore(target + product_step, a + b)
    vstore(target + 2 * product_step, a - b)
    vstore(target + 3 * product_step, b)


cdef void transform_gradient(
    const Plan* plan, const real* pixels, Py_ssize_t rows, real* m, Py_ssize_t tile_step, Py_ssize_t product_step,
) noexcept nogil:
    """A dY A^T of every tile, one vector of channels."""
    cdef Py_ssize_t i, _tile, row = plan.pitch * LANES, step = plan.column_step * LANES
    cdef Py_ssize_t columns = plan.tile_columns // plan.column_step
    cdef const real* pixel
    cdef vreal a, b, c, d
    for i in range(rows * plan.column_step):
        pixel = pixels + i // plan.column_step * 2 * row + i % plan.column_step * LANES
        for _tile in range(columns):
            a = vload(pixel)
            b = vload(pixel + step)
            c = vload(pixel + row)
            d = vload(pixel + row + step)
            gradient_products(a, b, m, product_step)
            gradient_products(a + c, b + d, m + 4 * product_step, product_step)
            gradient_products(a - c, b - d, m + 8 * product_step, product_step)
            gradient_products(c, d, m + 12 * product_step, product_step)
            pixel += 2 * step
            m += tile_step


cdef vreal transform_output(
    const Plan* plan, const real* m, Py_ssize_t tile_step, Py_ssize_t product_step, Py_ssize_t rows, vreal bias,
    int activation, real slope, real* pixels,
) noexcept nogil:
    """Activation of A^T m A + bias, one vector of outputs; a sum that is zero where A^T m A + bias is finite."""
    cdef vreal[4] even
    cdef vreal[4] odd
    cdef vreal a, b, c, d, finite = vset(0)
    cdef Py_ssize_t i, _tile, row = 2 * plan.tile_columns * LANES, step = plan.column_step * LANES
    cdef Py_ssize_t columns = plan.tile_columns // plan.column_step
    cdef real* pixel
    cdef int p
    for i in range(rows * plan.column_step):
        pixel = pixels + i // plan.column_step * 2 * row + i % plan.column_step * LANES
        for _tile in range(columns):
            for p in range(4):
                a = vload(m + p * product_step)
                b = vload(m + (p + 4) * product_step)
                c = vload(m + (p + 8) * product_step)
                d = vload(m + (p + 12) * product_step)
                even[p] = a + b + c
                odd[p] = b - c + d
            a = even[0] + even[1] + even[2] + bias
            b = even[1] - even[2] + even[3] + bias
            c = odd[0] + odd[1] + odd[2] + bias
            d = odd[1] - odd[2] + odd[3] + bias
            finite = finite + a * <real>0 + b * <real>0 + c * <real>0 + d * <real>0
            vstore(pixel, vactivate(a, activation, slope))
            vstore(pixel + step, vactivate(b, activation, slope))
            vstore(pixel + row, vactivate(c, activation, slope))
            vstore(pixel + row + step, vactivate(d, activation, slope))
            pixel += 2 * step
            m += tile_step
    return finite


cdef void store_rows(
    const real* pixels, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t width, real* target, Py_ssize_t row_step,
    int count, Py_ssize_t plane,
) noexcept nogil:
    """Store rows of [row][column][lane] as `count` planes, in which they lie row_step apart."""
    cdef vreal[LANES_MAX] v
    cdef Py_ssize_t i, j
    cdef const real* source
    cdef real* destination
    cdef int c, length
    if width == pitch == row_step:          # one long row
        width *= rows
        rows = 1
    for i in range(rows):
        j = 0
        while j < width:
            source = pixels + (i * pitch + j) * LANES
            destination = target + i * row_step + j
            length = <int>min(<Py_ssize_t>LANES, width - j)
            if count == LANES and length == LANES:
                vtranspose_block(source, LANES, destination, plane)
            else:
                for c in range(LANES):
                    v[c] = vload(source + c * LANES)
                vtranspose(v)
                if count == LANES:
                    for c in range(LANES):
                        vstore_partial(destination + c * plane, v[c], length)
                else:
                    for c in range(count):
                        vstore_some(destination + c * plane, v[c], length)
            j += LANES


cdef void transform_weight(
    const real* weight, int count, Py_ssize_t channels, Py_ssize_t output_step, Py_ssize_t channel_step, bint turned,
    real* u, Py_ssize_t channel_width, Py_ssize_t product_step,
) noexcept nogil:
    """G g G^T of one vector of outputs and every channel; `turned` by half a turn."""
    cdef vreal[LANES_MAX] v
    cdef vreal[4][3] half
    cdef vreal a, b, c
    cdef real[(TAPS + LANES_MAX) * LANES_MAX] taps
    cdef const real* source
    cdef real* target
    cdef Py_ssize_t channel
    cdef int f, k, p, n
    for channel in range(channels):
        f = 0
        while f < TAPS:
            n = min(<int>LANES, TAPS - f)
            for k in range(LANES):
                source = weight + min(k, count - 1) * output_step + channel * channel_step
                v[k] = vload_partial(source + f, n)
            vtranspose(v)
            for k in range(LANES):
                vstore(taps + (f + k) * LANES, v[k])
            f += LANES
        for p in range(3):
            a = vload(taps + (TAPS - 1 - p if turned else p) * LANES)
            b = vload(taps + (TAPS - 4 - p if turned else p + 3) * LANES)
            c = vload(taps + (TAPS - 7 - p if turned else p + 6) * LANES)
            half[0][p] = a
            half[1][p] = (a + c + b) * <real>0.5
            half[2][p] = (a + c - b) * <real>0.5
            half[3][p] = c
        target = u + channel * channel_width
        for p in range(4):
            vstore(target, half[p][0])
            vstore(target + product_step, (half[p][0] + half[p][2] + half[p][1]) * <real>0.5)
            vstore(target + 2 * product_step, (half[p][0] + half[p][2] - half[p][1]) * <real>0.5)
            vstore(target + 3 * product_step, half[p][2])
            target += 4 * product_step


cdef inline void run_products(
    int vectors, Py_ssize_t rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, real* c, Py_ssize_t c_row, bint add,
) noexcept nogil:
    """c = a b, or c += a b, for any number of rows, in blocks of even height. a_row or a_step is a literal 1."""
    cdef Py_ssize_t width = vectors * LANES, blocks = ceil_div(rows, tile_rows(vectors)), step, i = 0
    step = ceil_div(rows, blocks)
    while i < rows:
        run_product(
            vectors, TILE_ROWS_1, <int>min(step, rows - i), depth, a + i * a_row, a_row, a_step, b, width,
            c + i * c_row, c_row, LANES, add,
        )
        i += step


cdef void products_of_tiles(
    int vectors, Py_ssize_t tiles, Py_ssize_t depth, const real* v, Py_ssize_t channels, const real* u, real* m,
    bint add,
) noexcept nogil:
    """M[tile][output] = V[tile][channel] U[channel][output], or +=. A function by itself has the registers it needs."""
    cdef Py_ssize_t done = 0
    if depth == channels == FEW and vectors == 1 and VECTOR_REGISTERS > FEW + FEW_ROWS:
        done = tiles // FEW_ROWS * FEW_ROWS
        products_of_few(done, v, u, m)
    if done < tiles:
        run_products(
            vectors, tiles - done, depth, v + done * channels, channels, 1, u, m + done * vectors * LANES,
            vectors * LANES, add,
        )


cdef void products_of_few(Py_ssize_t tiles, const real* v, const real* u, real* m) noexcept nogil:
    """The same for FEW channels and one vector of outputs, whose U stays in registers, and whole FEW_ROWS of tiles."""
    cdef vreal[FEW] filters
    cdef vreal[FEW_ROWS] acc
    cdef Py_ssize_t i = 0
    cdef int p, t
    for p in range(FEW):
        filters[p] = vload_once(u + p * LANES)
    while i < tiles:
        for t in range(FEW_ROWS):
            acc[t] = vset(0)
        for p in range(FEW):
            for t in range(FEW_ROWS):
                acc[t] = acc[t] + filters[p] * v[(i + t) * FEW + p]
        for t in range(FEW_ROWS):
            vstore(m + (i + t) * LANES, acc[t])
        i += FEW_ROWS


cdef void products_of_channels(
    int vectors, Py_ssize_t outputs, Py_ssize_t tiles, const real* m, Py_ssize_t m_width, const real* v, real* partial,
    Py_ssize_t channels,
) noexcept nogil:
    """dU[output][channel] += M[tile][output] V[tile][channel]."""
    run_products(vectors, outputs, tiles, m, 1, m_width, v, partial, channels, True)


# ---- forward, and gradient of the input ---------------------------------------------------------------

cdef struct Forward:
    Plan plan
    const real* x
    const real* weight
    Py_ssize_t output_step      # of the weight
    Py_ssize_t channel_step
    bint turned
    const real* bias
    real* y
    int activation
    real slope
    real* u
    Py_ssize_t u_size           # of an output block
    Py_ssize_t output_blocks    # of PANEL_VECTORS vectors
    Py_ssize_t parts            # of the output blocks: a task each
    Py_ssize_t v_size           # workspace: V, M, then pixels
    Py_ssize_t m_size
    unsigned char* not_finite   # of each image


cdef void weight_task(const Forward* w, Py_ssize_t block) noexcept nogil:
    """U of one block of outputs."""
    cdef Py_ssize_t first = block * PANEL_VECTORS * LANES
    cdef Py_ssize_t width = min(<Py_ssize_t>PANEL_VECTORS * LANES, w.plan.outputs - first), k = 0
    while k < width:
        transform_weight(
            w.weight + (first + k) * w.output_step, <int>min(<Py_ssize_t>LANES, w.plan.out_channels - first - k),
            w.plan.in_channels, w.output_step, w.channel_step, w.turned,
            w.u + block * w.u_size + k, width, w.plan.in_channels * width + LANES,
        )
        k += LANES


cdef void forward_task(const Forward* w, Py_ssize_t task, real* workspace) noexcept nogil:
    """One block of tile rows, one part of the outputs."""
    cdef const Plan* plan = &w.plan
    cdef Py_ssize_t part = task % w.parts
    cdef Py_ssize_t first = task // w.parts * plan.block_rows, last = min(first + plan.block_rows, plan.rows)
    cdef Py_ssize_t tiles = (last - first) * plan.tile_columns
    cdef Py_ssize_t v_product = plan.tiles * plan.channels + LANES
    cdef Py_ssize_t in_plane = plan.height * plan.width, out_plane = plan.out_height * plan.out_width
    cdef Py_ssize_t row, c, k, lane, width, u_product, m_product, p, product, count, step, output_block
    cdef real* v = workspace
    cdef real* m = v + w.v_size
    cdef real* pixels = m + w.m_size
    cdef const real* u
    cdef vreal bias
    cdef Piece piece
    row = first
    while row < last:
        piece = piece_at(plan, row, last)
        c = 0
        while c < plan.in_channels:
            channels_last(
                w.x + (piece.image * plan.in_channels + c) * in_plane,
                <int>min(<Py_ssize_t>LANES, plan.in_channels - c), plan.height, plan.width, piece.first - plan.top,
                plan.row_step, 2 * piece.tile_rows + 2, plan.left, plan.pitch, pixels,
            )
            transform_input(
                plan, pixels, piece.tile_rows, v + (row - first) * plan.tile_columns * plan.channels + c,
                plan.channels, v_product,
            )
            c += LANES
        row += piece.tile_rows
    step = ceil_div(plan.in_channels, ceil_div(plan.in_channels, DEPTH))
    for output_block in range(part * w.output_blocks // w.parts, (part + 1) * w.output_blocks // w.parts):
        k = output_block * PANEL_VECTORS * LANES
        width = min(<Py_ssize_t>PANEL_VECTORS * LANES, plan.outputs - k)
        u = w.u + output_block * w.u_size
        u_product = plan.in_channels * width + LANES
        m_product = plan.tiles * width + LANES
        for product in range(PRODUCTS):
            p = 0
            while p < plan.in_channels:
                CHECK_BOUNDS(0, product * m_product + tiles * width, w.m_size)
                products_of_tiles(
                    <int>(width // LANES), tiles, min(step, plan.in_channels - p), v + product * v_product + p,
                    plan.channels, u + product * u_product + p * width, m + product * m_product, p > 0,
                )
                p += step
        lane = 0
        while lane < width:
            count = min(<Py_ssize_t>LANES, plan.out_channels - k - lane)
            bias = vload_partial(w.bias + k + lane, <int>count) if w.bias != NULL else vset(0)
            row = first
            while row < last:
                piece = piece_at(plan, row, last)
                if vsum(transform_output(
                    plan, m + (row - first) * plan.tile_columns * width + lane, width, m_product, piece.tile_rows,
                    bias, w.activation, w.slope, pixels,
                )) != 0:
                    w.not_finite[piece.image] = 1
                store_rows(
                    pixels, 2 * plan.tile_columns, piece.rows, plan.out_width,
                    w.y + (piece.image * plan.out_channels + k + lane) * out_plane + piece.first * plan.out_width,
                    plan.row_step * plan.out_width, <int>count, out_plane,
                )
                row += piece.tile_rows
            lane += LANES


cdef int forward_kernel(Forward* w, int threads) noexcept nogil:
    cdef Py_ssize_t thread_size, task, tasks
    cdef int team
    cdef void* memory
    cdef real* workspace
    plan_blocks(&w.plan, PRODUCTS * w.plan.channels, BLOCK_ELEMENTS)
    w.output_blocks = ceil_div(w.plan.outputs, PANEL_VECTORS * LANES)
    w.parts = min(ceil_div(TASKS // 2, w.plan.blocks), ceil_div(w.plan.outputs, OUTPUTS))
    tasks = w.plan.blocks * w.parts
    w.u_size = PRODUCTS * (w.plan.in_channels * min(w.plan.outputs, <Py_ssize_t>PANEL_VECTORS * LANES) + LANES)
    w.v_size = PRODUCTS * (w.plan.tiles * w.plan.channels + LANES)
    w.m_size = PRODUCTS * (w.plan.tiles * PANEL_VECTORS * LANES + LANES)
    thread_size = w.v_size + w.m_size + w.plan.pixels_size
    team = team_size(work_of(&w.plan), tasks, threads)
    memory = malloc((w.output_blocks * w.u_size + team * thread_size) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        return -1
    w.u = aligned(memory)
    workspace = w.u + w.output_blocks * w.u_size
    if team == 1:
        for task in range(w.output_blocks):
            weight_task(w, task)
        for task in range(tasks):
            forward_task(w, task, workspace)
    else:
        for task in prange(w.output_blocks, num_threads=team, schedule="static"):
            weight_task(w, task)
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            forward_task(w, task, workspace + threadid() * thread_size)
    free(memory)
    return 0


# ---- gradient of the weight ---------------------------------------------------------------------------

cdef struct WeightGradient:
    Plan plan
    const real* x
    const real* grad_y
    real* grad_weight
    Py_ssize_t chunk            # output channels of one task
    Py_ssize_t chunks
    Py_ssize_t parts            # of the blocks, each with a partial sum of its own
    real* partial               # [chunk][part][product][output][channel]
    Py_ssize_t partial_size
    Py_ssize_t v_size           # workspace: V, M, then pixels
    Py_ssize_t m_size


cdef void weight_gradient_task(const WeightGradient* w, Py_ssize_t task, real* workspace) noexcept nogil:
    """The products of one chunk of outputs, summed over one part of the blocks."""
    cdef const Plan* plan = &w.plan
    cdef Py_ssize_t part = task % w.parts, first_output = task // w.parts * w.chunk
    cdef Py_ssize_t outputs = min(w.chunk, plan.out_channels - first_output)
    cdef Py_ssize_t in_plane = plan.height * plan.width, out_plane = plan.out_height * plan.out_width
    cdef Py_ssize_t v_product = plan.tiles * plan.channels + LANES
    cdef Py_ssize_t m_width = whole_vectors(w.chunk), m_product = plan.tiles * m_width + LANES
    cdef Py_ssize_t panel = PANEL_VECTORS * LANES
    cdef Py_ssize_t block, first, last, row, c, width, tile, product
    cdef Piece piece
    cdef real* v = workspace
    cdef real* m = v + w.v_size
    cdef real* pixels = m + w.m_size
    cdef real* partial = w.partial + task * w.partial_size
    memset(partial, 0, w.partial_size * sizeof(real))
    for block in range(part * plan.blocks // w.parts, (part + 1) * plan.blocks // w.parts):
        first = block * plan.block_rows
        last = min(first + plan.block_rows, plan.rows)
        row = first
        while row < last:
            piece = piece_at(plan, row, last)
            tile = (row - first) * plan.tile_columns
            c = 0
            while c < plan.in_channels:
                channels_last(
                    w.x + (piece.image * plan.in_channels + c) * in_plane,
                    <int>min(<Py_ssize_t>LANES, plan.in_channels - c), plan.height, plan.width,
                    piece.first - plan.top, plan.row_step, 2 * piece.tile_rows + 2, plan.left, plan.pitch, pixels,
                )
                # [product][panel of channels][tile][channel]: each panel is read from one end to the other
                width = min(panel, plan.channels - c // panel * panel)
                transform_input(
                    plan, pixels, piece.tile_rows,
                    v + c // panel * panel * plan.tiles + tile * width + c % panel, width, v_product,
                )
                c += LANES
            c = 0
            while c < outputs:
                channels_last(
                    w.grad_y + (piece.image * plan.out_channels + first_output + c) * out_plane,
                    <int>min(<Py_ssize_t>LANES, outputs - c), plan.out_height, plan.out_width,
                    piece.first, plan.row_step, 2 * piece.tile_rows, 0, plan.pitch, pixels,
                )
                transform_gradient(plan, pixels, piece.tile_rows, m + tile * m_width + c, m_width, m_product)
                c += LANES
            row += piece.tile_rows
        for product in range(PRODUCTS):
            c = 0
            while c < plan.channels:
                width = min(panel, plan.channels - c)
                products_of_channels(
                    <int>(width // LANES), outputs, (last - first) * plan.tile_columns, m + product * m_product,
                    m_width, v + product * v_product + c * plan.tiles,
                    partial + product * w.chunk * plan.channels + c, plan.channels,
                )
                c += width


cdef real finish_output(const WeightGradient* w, Py_ssize_t output) noexcept nogil:
    """Add the parts of one output's products and transform the sums; zero where all are finite."""
    cdef const Plan* plan = &w.plan
    cdef const real* partial = w.partial + output // w.chunk * w.parts * w.partial_size
    cdef Py_ssize_t product_step = w.chunk * plan.channels, c = 0, part
    cdef vreal[PRODUCTS] u
    cdef vreal[3][4] half
    cdef vreal[LANES_MAX] v
    cdef vreal middle, finite = vset(0)
    cdef real[(TAPS + LANES_MAX) * LANES_MAX] taps
    cdef int p, k, f, count
    cdef real* target
    while c < plan.in_channels:
        for p in range(PRODUCTS):
            u[p] = vload(partial + p * product_step + output % w.chunk * plan.channels + c)
        for part in range(1, w.parts):
            for p in range(PRODUCTS):
                u[p] = u[p] + vload(
                    partial + part * w.partial_size + p * product_step + output % w.chunk * plan.channels + c
                )
        for p in range(4):
            middle = (u[p + 4] + u[p + 8]) * <real>0.5
            half[0][p] = u[p] + middle
            half[1][p] = (u[p + 4] - u[p + 8]) * <real>0.5
            half[2][p] = middle + u[p + 12]
        for p in range(3):
            middle = (half[p][1] + half[p][2]) * <real>0.5
            vstore(taps + 3 * p * LANES, half[p][0] + middle)
            vstore(taps + (3 * p + 1) * LANES, (half[p][1] - half[p][2]) * <real>0.5)
            vstore(taps + (3 * p + 2) * LANES, middle + half[p][3])
        count = <int>min(<Py_ssize_t>LANES, plan.in_channels - c)
        target = w.grad_weight + (output * plan.in_channels + c) * TAPS
        f = 0
        while f < TAPS:
            for k in range(LANES):
                v[k] = vload(taps + (f + k) * LANES) if f + k < TAPS else vset(0)
                finite = finite + v[k] * <real>0
            vtranspose(v)
            for k in range(count):
                vstore_partial(target + k * TAPS + f, v[k], min(<int>LANES, TAPS - f))
            f += LANES
        c += LANES
    return vsum(finite)


cdef int backward_weight_kernel(WeightGradient* w, int threads) noexcept nogil:
    """1 where a gradient is not finite, -1 where memory is short."""
    cdef Py_ssize_t thread_size, task, tasks
    cdef int team, not_finite = 0
    cdef void* memory
    cdef real* workspace
    w.chunks = ceil_div(w.plan.out_channels, OUTPUTS)
    w.chunk = ceil_div(w.plan.out_channels, w.chunks)
    w.chunks = ceil_div(w.plan.out_channels, w.chunk)
    plan_blocks(&w.plan, PRODUCTS * (w.plan.channels + whole_vectors(w.chunk)), 2 * BLOCK_ELEMENTS)
    w.partial_size = PRODUCTS * w.chunk * w.plan.channels
    w.parts = min(w.plan.blocks, ceil_div(TASKS, w.chunks))
    w.parts = max(1, min(w.parts, PARTIAL_ELEMENTS // (w.chunks * w.partial_size)))
    tasks = w.chunks * w.parts
    w.v_size = PRODUCTS * (w.plan.tiles * w.plan.channels + LANES)
    w.m_size = PRODUCTS * (w.plan.tiles * whole_vectors(w.chunk) + LANES)
    thread_size = w.v_size + w.m_size + w.plan.pixels_size
    team = team_size(work_of(&w.plan), tasks, threads)
    memory = malloc((team * thread_size + tasks * w.partial_size) * sizeof(real) + CACHE_LINE)
    if memory == NULL:
        return -1
    workspace = aligned(memory)
    w.partial = workspace + team * thread_size
    if team == 1:
        for task in range(tasks):
            weight_gradient_task(w, task, workspace)
        for task in range(w.plan.out_channels):
            not_finite += finish_output(w, task) != 0
    else:
        for task in prange(tasks, num_threads=team, schedule="dynamic"):
            weight_gradient_task(w, task, workspace + threadid() * thread_size)
        for task in prange(w.plan.out_channels, num_threads=team, schedule="static"):
            not_finite += finish_output(w, task) != 0
    free(memory)
    return not_finite > 0


# ---- what Python calls --------------------------------------------------------------------------------

cdef Plan plan_of(
    cnp.ndarray x, cnp.ndarray y, Py_ssize_t top, Py_ssize_t left, Py_ssize_t row_step, Py_ssize_t column_step,
) noexcept:
    cdef Plan plan
    cdef cnp.npy_intp* size = cnp.PyArray_DIMS(x)
    plan.images = size[0]
    plan.in_channels = size[1]
    plan.height = size[2]
    plan.width = size[3]
    size = cnp.PyArray_DIMS(y)
    plan.out_channels = size[1]
    plan.out_height = size[2]
    plan.out_width = size[3]
    plan.top = top
    plan.left = left
    plan.row_step = row_step
    plan.column_step = column_step
    plan.channels = whole_vectors(plan.in_channels)
    plan.outputs = whole_vectors(plan.out_channels)
    return plan


cdef list run_forward(Forward* w, int threads):
    cdef int status
    cdef Py_ssize_t n
    w.not_finite = <unsigned char*>malloc(w.plan.images)
    if w.not_finite == NULL:
        raise MemoryError("no room for the workspace of a convolution")
    memset(w.not_finite, 0, w.plan.images)
    with nogil:
        status = forward_kernel(w, threads)
    images = []
    if memchr(w.not_finite, 1, w.plan.images) != NULL:
        images = [n for n in range(w.plan.images) if w.not_finite[n]]
    free(w.not_finite)
    if status != 0:
        raise MemoryError("no room for the workspace of a convolution")
    return images


def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t row_step, Py_ssize_t column_step, int activation, double slope,
    int threads,
):
    """y = activation(conv(x, weight) + bias), 3x3 and stride 1; the images to compute the direct way instead."""
    cdef Forward w
    w.plan = plan_of(x, y, top, left, row_step, column_step)
    w.x = <const real*>cnp.PyArray_DATA(x)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.output_step = w.plan.in_channels * TAPS
    w.channel_step = TAPS
    w.turned = False
    w.bias = <const real*>cnp.PyArray_DATA(bias) if bias is not None else NULL
    w.y = <real*>cnp.PyArray_DATA(y)
    w.activation = activation
    w.slope = <real>slope
    return run_forward(&w, threads)


def backward_input(
    cnp.ndarray grad_y not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t row_step, Py_ssize_t column_step, int threads,
):
    """Gradient of the convolution's input; the images to compute the direct way instead."""
    cdef Forward w
    w.plan = plan_of(grad_y, grad_x, 2 * row_step - top, 2 * column_step - left, row_step, column_step)
    w.x = <const real*>cnp.PyArray_DATA(grad_y)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.output_step = TAPS
    w.channel_step = w.plan.out_channels * TAPS
    w.turned = True
    w.bias = NULL
    w.y = <real*>cnp.PyArray_DATA(grad_x)
    w.activation = 0
    w.slope = 0
    return run_forward(&w, threads)


def backward_weight(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_weight not None,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t row_step, Py_ssize_t column_step, int threads,
):
    """Gradient of the convolution's weight; False where it must be computed the direct way instead."""
    cdef WeightGradient w
    cdef int status
    w.plan = plan_of(x, grad_y, top, left, row_step, column_step)
    w.x = <const real*>cnp.PyArray_DATA(x)
    w.grad_y = <const real*>cnp.PyArray_DATA(grad_y)
    w.grad_weight = <real*>cnp.PyArray_DATA(grad_weight)
    with nogil:
        status = backward_weight_kernel(&w, threads)
    if status < 0:
        raise MemoryError("no room for the workspace of a convolution")
    return status == 0
