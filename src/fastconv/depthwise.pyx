"""Depthwise convolution: every channel of an image has filters of its own.

With one input channel a filter the arithmetic is as short as the copy of the image, so the point is to touch memory
once and to load little. A task takes one channel of one image, copies it row by row into a padded plane
(plane.pxd) that stays in the first-level cache, and computes the rows whose input has just arrived. Lanes are
neighbouring pixels of a row, and a tile is one vector of ROWS rows below each other:

    a run is taps below each other in one plane: its rows of input slide through registers, so that each is loaded
    once and meets every tap of the run

         tap 0 * row i          out[i]
         tap 1 * row i + 1      out[i]      out[i + 1] has met row i + 1 at tap 0

The three passes are the same walk with other runs:

    forward                 planes are the s x s phases of x
    gradient of the input   planes are grad_output of the channel's filters; a stencil for each of the s x s residues of
                            an input position, made of the taps that reach it
    gradient of the weight  planes as forward; accumulators are taps, lanes are pixels to be added up

Work is cut into tasks by the shapes alone. Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport isfinite
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from fastconv.geometry cimport Geometry, ceil_div, geometry_of
from fastconv.parallel cimport team_size
from fastconv.plane cimport Planes, copy_pairs, copy_planes
from fastconv.simd cimport (
    CACHE_LINE, CHECK_BOUNDS, LANES, LINEAR, RELU,
    aligned, real, vactivate, vload, vload_once, vload_partial, vload_some, vreal, vset, vstore,
    vstore_pairs, vstore_partial, vstore_some, vstore_strided, vsum, whole_vectors,
)
from fastconv.tile cimport DEPTH

cnp.import_array()

cdef enum:
    ROWS = 4                    # of outputs that share their input
    LANES_MAX = 16              # of the widest vectors
    PLANE_BYTES = 24576         # planes of a band: half of the first-level cache
    RUN_MAX = 8                 # taps of a run
    GRADIENT_TAPS = 5           # taps of a run of the weight's gradient, which has an accumulator each
    STRIP = 16                  # vectors of a row whose products are added up at a time
    AHEAD = 16                  # rows copied at a time
    TASKS = 16                  # tasks to aim at, so that a few threads share evenly

cdef double ADDRESSABLE = 1e13  # elements of one image's planes beyond which no machine has memory

include "depthwise_plan.pxi"
include "depthwise_walk.pxi"
include "depthwise_gradient.pxi"


def forward(
    cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int activation, double slope, int threads,
):
    """y = activation(conv(x, weight) + bias)."""
    cdef Geometry g = geometry_of(x, weight, y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups)
    cdef Walk w
    cdef int status
    w.source = <const real*>cnp.PyArray_DATA(x)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.bias = NULL
    if bias is not None:
        w.bias = <const real*>cnp.PyArray_DATA(bias)
    w.target = <real*>cnp.PyArray_DATA(y)
    w.target_plane = g.out_height * g.out_width
    w.target_row = g.out_width
    w.target_column = 1
    w.activation = activation
    w.slope = <real>slope
    with nogil:
        status = plan_forward(&w, &g, False)
        if status == 0:
            status = run_walk(&w, threads)
        free_runs(&w)
    if status != 0:
        raise MemoryError("conv2d: no memory for the padded planes")


def backward_input(
    cnp.ndarray grad_y not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_x, the transposed convolution of grad_y."""
    cdef Geometry g = geometry_of(
        grad_x, weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef Walk w
    cdef int status
    w.source = <const real*>cnp.PyArray_DATA(grad_y)
    w.weight = <const real*>cnp.PyArray_DATA(weight)
    w.bias = NULL
    w.target = <real*>cnp.PyArray_DATA(grad_x)
    w.target_plane = g.height * g.width
    w.target_row = g.width * g.stride_h
    w.target_column = g.stride_w
    w.activation = LINEAR
    w.slope = 0
    with nogil:
        status = plan_backward(&w, &g)
        if status == 0:
            status = run_walk(&w, threads)
        free_runs(&w)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the padded planes")


def backward_weight(
    cnp.ndarray grad_y not None, cnp.ndarray x not None, cnp.ndarray grad_weight not None,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """grad_weight, the correlation of grad_y with x."""
    cdef Geometry g = geometry_of(
        x, grad_weight, grad_y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
    )
    cdef WeightGradient v
    cdef real* grad_weight_data = <real*>cnp.PyArray_DATA(grad_weight)
    cdef int status
    v.x = <const real*>cnp.PyArray_DATA(x)
    v.grad_y = <const real*>cnp.PyArray_DATA(grad_y)
    with nogil:
        status = plan_forward(&v.w, &g, True)
        if status == 0:
            status = run_weight_gradient(&v, grad_weight_data, threads)
        free_runs(&v.w)
    if status != 0:
        raise MemoryError("conv2d_backward: no memory for the padded planes and partial sums")
