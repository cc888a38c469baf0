"""Two-dimensional convolution: forward, gradient of the input, gradient of the weight, gradient of the bias.

Forward and gradient of the input are the same pass, `sweep`: a stride-1 walk of the micro-kernel over padded
phase planes (plane.pxd), with a table of tap offsets that says which convolution it is.

    forward                 planes are the s x s phases of x; taps are all (r, s)
    gradient of the input   planes are grad_output; for each of the s x s residues of an input position, the
                            taps that reach it, written to every s-th row and column of grad_x: nothing is
                            multiplied by inserted zeros

Where the kernel is 1x1, or the images small and the outputs many, the same sums are a product of the weights, as they
lie, with a panel of packed pixels (panel.pxi).

Gradient of the weight is the same tile with filters as lanes, grad_output transposed being the panel
(filter_lanes.pxi). With fewer pixels than filters, lanes are the weights of one filter, as they lie in the result
(weight_lanes.pxi). With too few filters to fill a vector, lanes are pixels, and it is the other micro-kernel: dot
products of grad_output planes with shifted planes of x (pixel_lanes.pxi).

Work is cut into tasks by the shapes alone. Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv.gathered cimport GATHERED_ROWS, run_gathered
from fastconv.geometry cimport Geometry, ceil_div, geometry_of
from fastconv.parallel cimport team_size
from fastconv.plane cimport ALL_PADDING, SIDE_PADDING, Planes, copy_pairs, copy_planes, copy_strided  # no-cython-lint: panel.pxi uses it
from fastconv.simd cimport (
    CACHE_LINE, CHECK_BOUNDS, DOT_COLUMNS, DOT_ROWS, HALVES, LANES, LINEAR, VECTOR_BYTES,
    aligned, real, sum_of, vactivate, vcopy, vload, vprefetch, vreal, vset, vstore, vstore_in_turn,
    vstore_partial, vstore_strided, vsum, vtranspose_part, whole_vectors,
)
from fastconv.tile cimport DEPTH, VECTORS_MAX, Runs, choose_tile, run_dots, run_tile

cnp.import_array()

cdef enum:
    PLANE_ELEMENTS = 65536      # planes a task copies at a time (256 KiB of float32)
    TASKS = 16                  # tasks to aim at, so that a few threads share evenly
    SLAB = 3072                 # pixels of one weight-gradient dot product
    SLAB_PIXELS = 896           # copied at a time where filters are lanes
    BLOCK_BYTES = 32768         # transposed gradient that one such sum runs over: it stays in the first-level cache
    FILTERS = 128               # of one such task
    SUMS_ELEMENTS = 65536       # sums of one such task (256 KiB of float32)
    LARGE_WORK = 50000000       # multiply-adds from which on tasks are shared out as threads come free
    WORK_PER_WEIGHT = 16        # what packing one weight costs, in multiply-adds
    WORK_PER_TERM = 8           # and adding one number to a sum
    PARTIAL_ELEMENTS = 2097152  # bound on all partial weight gradients together

cdef double ADDRESSABLE = 1e13  # elements of one image's planes beyond which no machine has memory

cdef struct Tap:
    Py_ssize_t phase
    Py_ssize_t row              # in the plane, from the output's own row
    Py_ssize_t column
    Py_ssize_t index            # r*kernel_w + s, in the weight


cdef void gathered_tile(
    int vectors, int rows, Py_ssize_t depth, const real* a, const Py_ssize_t* place, const Py_ssize_t* offset,
    const real* b, const real* init, const real* sums, Py_ssize_t sums_row, real* c, Py_ssize_t c_row,
) noexcept nogil:
    """A function of its own: a tile needs every register, and what surrounds it would keep some."""
    run_gathered(vectors, rows, depth, a, place, offset, b, init, sums, sums_row, c, c_row)


cdef void copy_band(
    const Planes* planes, bint split, const real* image, Py_ssize_t channels, Py_ssize_t first_row, real* target,
    Py_ssize_t plane_size, int padded,
) noexcept nogil:
    """copy_planes, or copy_pairs where the phases are `split`."""
    if split:
        copy_pairs(planes, image, channels, first_row, target, plane_size, padded)
    else:
        copy_planes(planes, image, channels, first_row, target, plane_size, padded)


include "sweep.pxi"
include "panel.pxi"


cdef int run_planes(
    Sweep* s, const real* weight, Py_ssize_t output_step, Py_ssize_t channel_step, Py_ssize_t group_step,
    const real* bias, int threads,
) noexcept nogil:
    """The faster of the two for the shape: a sweep over padded planes, or a panel of packed pixels."""
    cdef Panel panel
    cdef Sweep one
    cdef Py_ssize_t r
    if plan_sweep(s) != 0:
        return -1
    panel.s = s
    plan_panel(&panel)
    if not panel_pays(&panel):
        return run_sweep(s, weight, output_step, channel_step, group_step, bias, threads)
    for r in range(s.residue_count):
        one = s[0]
        one.taps = s.residues[r].taps
        one.tap_count = s.residues[r].tap_count
        one.target += s.residues[r].row * s.target_w + s.residues[r].column
        one.grid_h = ceil_div(s.target_h - s.residues[r].row, s.target_stride_h)
        one.grid_w = ceil_div(s.target_w - s.residues[r].column, s.target_column)
        panel.s = &one
        panel.weight = weight
        panel.output_step = output_step
        panel.channel_step = channel_step
        panel.group_step = group_step
        panel.bias = bias
        plan_panel(&panel)
        if run_panel(&panel, threads) != 0:
            return -1
    return 0


# ---- forward ------------------------------------------------------------------------------------------

cdef Py_ssize_t phases_of_taps(
    const Geometry* g, Tap* taps, Py_ssize_t* phase_row, Py_ssize_t* phase_column,
) noexcept nogil:
    """Fill the forward taps and the phases that they use; the number of those phases."""
    cdef Py_ssize_t r, s, f, row, column, count = 0
    cdef Tap* tap = taps
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            row = r * g.dilation_h
            column = s * g.dilation_w
            tap.row = row // g.stride_h
            tap.column = column // g.stride_w
            tap.index = r * g.kernel_w + s
            for f in range(count):
                if phase_row[f] == row % g.stride_h and phase_column[f] == column % g.stride_w:
                    break
            else:
                f = count
                phase_row[f] = row % g.stride_h
                phase_column[f] = column % g.stride_w
                count += 1
            tap.phase = f
            tap += 1
    return count


cdef int forward_kernel(
    const Geometry* g, const real* x, const real* weight, const real* bias, real* y, int activation, real slope,
    int threads,
) noexcept nogil:
    cdef Sweep s
    cdef Residue residue
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, f
    cdef int status
    cdef Tap* tap = <Tap*>malloc(taps * sizeof(Tap))
    cdef Py_ssize_t* phase = <Py_ssize_t*>malloc(2 * taps * sizeof(Py_ssize_t))
    if tap == NULL or phase == NULL:
        free(tap)
        free(phase)
        return -1
    s.planes.phases = phases_of_taps(g, tap, phase, phase + taps)
    s.planes.phase_row = phase
    s.planes.phase_column = phase + taps
    s.planes.height = g.height
    s.planes.width = g.width
    s.planes.stride_h = g.stride_h
    s.planes.stride_w = g.stride_w
    s.planes.top = g.top
    s.planes.left = g.left
    s.source = x
    s.images = g.images
    s.groups = g.groups
    s.channels = g.in_channels
    s.in_place = (
        g.stride_h == 1 and g.stride_w == 1 and g.top == 0 and g.left == 0
        and g.out_height + (g.kernel_h - 1) * g.dilation_h == g.height
        and g.out_width + (g.kernel_w - 1) * g.dilation_w == g.width
    )
    s.split = s.planes.stride_w == 2 and s.planes.phases % 2 == 0
    for f in range(s.planes.phases):
        s.split = s.split and phase[taps + f] == f % 2 and phase[f] == phase[f - f % 2]
    s.tap_count = taps
    s.taps = tap
    residue = Residue(tap, taps, 0, 0, 0)
    s.residue_count = 1
    s.residues = &residue
    s.pairs = False
    s.outputs = g.out_channels
    s.target = y
    s.target_h = g.out_height
    s.target_w = g.out_width
    s.target_stride_h = 1
    s.grid_h = g.out_height
    s.grid_w = g.out_width
    s.target_plane = g.out_height * g.out_width
    s.target_row = g.out_width
    s.target_column = 1
    s.activation = activation
    s.slope = slope
    status = run_planes(
        &s, weight, g.in_channels * taps, taps, g.out_channels * g.in_channels * taps, bias, threads
    )
    free(tap)
    free(phase)
    return status


# ---- gradient of the input ----------------------------------------------------------------------------

cdef Py_ssize_t taps_of_residue(
    const Geometry* g, Py_ssize_t row, Py_ssize_t column, Tap* taps,
) noexcept nogil:
    """The taps through which an input pixel at (row, column) modulo the stride reaches an output pixel.

    Input row i = row + u*stride meets tap r at output row u + (row + top - r*dilation)/stride.
    """
    cdef Py_ssize_t r, s, down, right, count = 0
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            down = row + g.top - r * g.dilation_h
            right = column + g.left - s * g.dilation_w
            if down % g.stride_h == 0 and right % g.stride_w == 0:
                taps[count] = Tap(0, down // g.stride_h, right // g.stride_w, r * g.kernel_w + s)
                count += 1
    return count


cdef int backward_input_kernel(
    const Geometry* g, const real* grad_y, const real* weight, real* grad_x, int threads,
) noexcept nogil:
    cdef Sweep s
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, row, column, t, count
    cdef Py_ssize_t rows = min(g.stride_h, g.height), columns = min(g.stride_w, g.width)
    cdef Py_ssize_t only_phase = 0, lowest_row = 0, lowest_column = 0
    cdef int status
    cdef Tap* tap = <Tap*>malloc(taps * sizeof(Tap))
    cdef Residue* residue = <Residue*>malloc(taps * sizeof(Residue))
    if tap == NULL or residue == NULL:
        free(tap)
        free(residue)
        return -1
    s.tap_count = 0
    s.residue_count = 0
    for row in range(rows):
        for column in range(columns):
            count = taps_of_residue(g, row, column, tap + s.tap_count)
            if count > 0:
                residue[s.residue_count] = Residue(tap + s.tap_count, count, s.tap_count, row, column)
                s.residue_count += 1
                s.tap_count += count
    for t in range(s.tap_count):
        lowest_row = min(lowest_row if t > 0 else tap[t].row, tap[t].row)
        lowest_column = min(lowest_column if t > 0 else tap[t].column, tap[t].column)
    for t in range(s.tap_count):
        tap[t].row -= lowest_row
        tap[t].column -= lowest_column
    s.planes.top = -lowest_row
    s.planes.left = -lowest_column
    s.planes.phases = 1
    s.planes.phase_row = &only_phase
    s.planes.phase_column = &only_phase
    s.planes.height = g.out_height
    s.planes.width = g.out_width
    s.planes.stride_h = 1
    s.planes.stride_w = 1
    s.split = False
    s.source = grad_y
    s.images = g.images
    s.groups = g.groups
    s.channels = g.out_channels
    s.taps = tap
    s.residues = residue
    s.pairs = g.stride_w == 2 and columns == 2 and s.residue_count == rows * columns
    s.outputs = g.in_channels
    s.target = grad_x
    s.target_h = g.height
    s.target_w = g.width
    s.target_stride_h = g.stride_h
    s.target_plane = g.height * g.width
    s.target_row = g.width * g.stride_h
    s.target_column = g.stride_w
    s.grid_h = ceil_div(g.height, g.stride_h)
    s.grid_w = ceil_div(g.width, g.stride_w)
    s.activation = LINEAR
    s.slope = 0
    s.in_place = taps == 1 and g.height == g.out_height and g.width == g.out_width \
        and s.planes.top == 0 and s.planes.left == 0
    if s.residue_count < rows * columns:  # pixels that no tap reaches
        memset(
            grad_x, 0, g.images * g.groups * g.in_channels * g.height * g.width * sizeof(real)
        )
    status = 0
    if s.residue_count > 0:
        status = run_planes(
            &s, weight, taps, g.in_channels * taps, g.out_channels * g.in_channels * taps, NULL, threads
        )
    free(tap)
    free(residue)
    return status


# ---- gradient of the weight ---------------------------------------------------------------------------

cdef void add_parts(
    const real* partial, Py_ssize_t parts, Py_ssize_t size, real* target,
) noexcept nogil:
    """Sum the partial weight gradients, in order."""
    cdef Py_ssize_t part, i
    memcpy(target, partial, size * sizeof(real))
    for part in range(1, parts):
        for i in range(size):
            target[i] += partial[part * size + i]


include "pixel_lanes.pxi"
include "filter_lanes.pxi"
include "weight_lanes.pxi"


cdef inline bint fills_vectors(Py_ssize_t count) noexcept nogil:
    """Whether so many lanes leave few of their vectors' empty."""
    return 5 * whole_vectors(count) <= 8 * count


cdef int backward_weight_kernel(
    const Geometry* g, const real* grad_y, const real* x, real* grad_weight, int threads,
) noexcept nogil:
    """Lanes are weights where pixels are few, else filters where those nearly fill whole vectors, else pixels."""
    cdef Geometry other
    if weight_lanes_pay(g):
        return weight_lanes_kernel(g, grad_y, x, grad_weight, threads)
    if not fills_vectors(g.out_channels):
        return pixel_lanes_kernel(g, grad_y, x, grad_weight, threads)
    if (
        g.kernel_h * g.kernel_w == 1 and g.out_height == g.height and g.out_width == g.width
        and g.top == 0 and g.left == 0 and g.in_channels < g.out_channels and fills_vectors(g.in_channels)
    ):
        other = g[0]
        other.in_channels = g.out_channels
        other.out_channels = g.in_channels
        return filter_lanes_kernel(&other, x, grad_y, grad_weight, True, threads)
    return filter_lanes_kernel(g, grad_y, x, grad_weight, False, threads)


# ---- gradient of the bias -----------------------------------------------------------------------------

cdef void bias_gradient_channel(
    const real* grad_y, Py_ssize_t images, Py_ssize_t channels, Py_ssize_t channel, Py_ssize_t size, real* target,
) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t n
    for n in range(images):
        total += sum_of(grad_y + (n * channels + channel) * size, size)
    target[0] = <real>total


# ---- what Python calls --------------------------------------------------------------------------------

def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int activation, double slope, int threads,
):
    """y = activation(conv(x, weight) + bias)."""
    cdef Geometry g = geometry_of(x, weight, y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef const real* weight_data = <const real*>cnp.PyArray_DATA(weight)
    cdef const real* bias_data = NULL
    cdef real* y_data = <real*>cnp.PyArray_DATA(y)
    cdef int status
    if bias is not None:
        bias_data = <const real*>cnp.PyArray_DATA(bias)
    with nogil:
        status = forward_kernel(&g, x_data, weight_data, bias_data, y_data, activation, <real>slope, threads)
    if status != 0:
        raise MemoryError("conv2d: no memory for the packed weight and the padded planes")


def backward_input(
    cnp.ndarray grad_y not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_x, the transposed convolution of grad_y."""
    cdef Geometry g = geometry_of(
        grad_x, weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef const real* weight_data = <const real*>cnp.PyArray_DATA(weight)
    cdef real* grad_x_data = <real*>cnp.PyArray_DATA(grad_x)
    cdef int status
    with nogil:
        status = backward_input_kernel(&g, grad_y_data, weight_data, grad_x_data, threads)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the packed weight and the padded planes")


def backward_weight(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_weight not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_weight, the correlation of grad_y with x."""
    cdef Geometry g = geometry_of(
        x, grad_weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* grad_weight_data = <real*>cnp.PyArray_DATA(grad_weight)
    cdef int status
    with nogil:
        status = backward_weight_kernel(&g, grad_y_data, x_data, grad_weight_data, threads)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the padded planes and partial sums")


def backward_bias(cnp.ndarray grad_y not None, cnp.ndarray grad_bias not None, int threads):
    """grad_bias, the sum of grad_y over images and pixels."""
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(grad_y)
    cdef Py_ssize_t images = shape[0], channels = shape[1], size = shape[2] * shape[3], k
    cdef const real* grad_y_data = <const real*>cnp.PyArray_DATA(grad_y)
    cdef real* grad_bias_data = <real*>cnp.PyArray_DATA(grad_bias)
    cdef int team
    with nogil:
        team = team_size(<double>images * channels * size * WORK_PER_TERM, channels, threads)
        if team == 1:
            for k in range(channels):
                bias_gradient_channel(grad_y_data, images, channels, k, size, grad_bias_data + k)
        else:
            for k in prange(channels, num_threads=team, schedule="static"):
                bias_gradient_channel(grad_y_data, images, channels, k, size, grad_bias_data + k)
