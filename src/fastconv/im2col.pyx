"""im2col, the matrix of all convolution windows, and its adjoint col2im.

    columns[n, (c, r, s), (oh, ow)] = x[n, c, oh*stride_h + r*dilation_h - top, ow*stride_w + s*dilation_w - left]

with zeros outside the image; col2im adds every entry back to the pixel it came from. A task is one channel of
one image, so no two tasks write the same pixel. Arrays are C order and were validated by the caller.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv.parallel cimport team_size
from fastconv.simd cimport real

cnp.import_array()

cdef struct Windows:
    Py_ssize_t planes           # images x channels
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t out_height
    Py_ssize_t out_width
    Py_ssize_t kernel_h
    Py_ssize_t kernel_w
    Py_ssize_t stride_h
    Py_ssize_t stride_w
    Py_ssize_t top
    Py_ssize_t left
    Py_ssize_t dilation_h
    Py_ssize_t dilation_w


cdef inline void columns_inside(const Windows* g, Py_ssize_t start, Py_ssize_t* low, Py_ssize_t* high) noexcept nogil:
    """The output columns [low, high) whose input column, start + ow*stride_w, lies in the image."""
    low[0] = 0 if start >= 0 else (-start + g.stride_w - 1) // g.stride_w
    high[0] = (g.width - start + g.stride_w - 1) // g.stride_w if g.width > start else 0
    low[0] = min(low[0], g.out_width)
    high[0] = max(low[0], min(high[0], g.out_width))


cdef void im2col_plane(const Windows* g, const real* x, real* columns) noexcept nogil:
    cdef Py_ssize_t r, s, oh, ow, row, start, low, high
    cdef const real* source
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            start = s * g.dilation_w - g.left
            columns_inside(g, start, &low, &high)
            for oh in range(g.out_height):
                row = oh * g.stride_h + r * g.dilation_h - g.top
                if row < 0 or row >= g.height:
                    memset(columns, 0, g.out_width * sizeof(real))
                else:
                    source = x + row * g.width + start
                    memset(columns, 0, low * sizeof(real))
                    if g.stride_w == 1:
                        memcpy(columns + low, source + low, (high - low) * sizeof(real))
                    else:
                        for ow in range(low, high):
                            columns[ow] = source[ow * g.stride_w]
                    memset(columns + high, 0, (g.out_width - high) * sizeof(real))
                columns += g.out_width


cdef void col2im_plane(const Windows* g, const real* columns, real* x) noexcept nogil:
    cdef Py_ssize_t r, s, oh, ow, row, start, low, high
    cdef real* target
    memset(x, 0, g.height * g.width * sizeof(real))
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            start = s * g.dilation_w - g.left
            columns_inside(g, start, &low, &high)
            for oh in range(g.out_height):
                row = oh * g.stride_h + r * g.dilation_h - g.top
                if row >= 0 and row < g.height:
                    target = x + row * g.width + start
                    if g.stride_w == 1:
                        for ow in range(low, high):
                            target[ow] += columns[ow]
                    else:
                        for ow in range(low, high):
                            target[ow * g.stride_w] += columns[ow]
                columns += g.out_width


cdef Windows windows_of(
    cnp.ndarray x, Py_ssize_t out_height, Py_ssize_t out_width, Py_ssize_t kernel_h, Py_ssize_t kernel_w,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w,
) noexcept:
    cdef Windows g
    g.planes = cnp.PyArray_DIM(x, 0) * cnp.PyArray_DIM(x, 1)
    g.height = cnp.PyArray_DIM(x, 2)
    g.width = cnp.PyArray_DIM(x, 3)
    g.out_height = out_height
    g.out_width = out_width
    g.kernel_h = kernel_h
    g.kernel_w = kernel_w
    g.stride_h = stride_h
    g.stride_w = stride_w
    g.top = top
    g.left = left
    g.dilation_h = dilation_h
    g.dilation_w = dilation_w
    return g


def im2col(
    cnp.ndarray x not None, cnp.ndarray columns not None, Py_ssize_t out_height, Py_ssize_t out_width,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Fill columns (N, C*R*S, OH*OW) from x (N, C, H, W)."""
    cdef Windows g = windows_of(
        x, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w
    )
    cdef const real* x_data = <const real*>cnp.PyArray_DATA(x)
    cdef real* columns_data = <real*>cnp.PyArray_DATA(columns)
    cdef Py_ssize_t size = g.height * g.width
    cdef Py_ssize_t column_size = kernel_h * kernel_w * out_height * out_width, plane
    cdef int team
    with nogil:
        team = team_size(<double>g.planes * column_size, g.planes, threads)
        if team == 1:
            for plane in range(g.planes):
                im2col_plane(&g, x_data + plane * size, columns_data + plane * column_size)
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                im2col_plane(&g, x_data + plane * size, columns_data + plane * column_size)


def col2im(
    cnp.ndarray columns not None, cnp.ndarray x not None, Py_ssize_t out_height, Py_ssize_t out_width,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Fill x (N, C, H, W) with the sums of the columns (N, C*R*S, OH*OW)."""
    cdef Windows g = windows_of(
        x, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w
    )
    cdef const real* columns_data = <const real*>cnp.PyArray_DATA(columns)
    cdef real* x_data = <real*>cnp.PyArray_DATA(x)
    cdef Py_ssize_t size = g.height * g.width
    cdef Py_ssize_t column_size = kernel_h * kernel_w * out_height * out_width, plane
    cdef int team
    with nogil:
        team = team_size(<double>g.planes * column_size, g.planes, threads)
        if team == 1:
            for plane in range(g.planes):
                col2im_plane(&g, columns_data + plane * column_size, x_data + plane * size)
        else:
            for plane in prange(g.planes, num_threads=team, schedule="static"):
                col2im_plane(&g, columns_data + plane * column_size, x_data + plane * size)
