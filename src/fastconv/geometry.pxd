"""The sizes of one convolution."""

cimport numpy as cnp


cdef struct Geometry:
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t in_channels      # of one group
    Py_ssize_t out_channels     # of one group
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


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Geometry geometry_of(
    cnp.ndarray x, cnp.ndarray weight, cnp.ndarray y, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups,
) noexcept:
    cdef Geometry g
    cdef cnp.npy_intp* size = cnp.PyArray_DIMS(x)
    g.images = size[0]
    g.groups = groups
    g.in_channels = size[1] // groups
    g.height = size[2]
    g.width = size[3]
    size = cnp.PyArray_DIMS(weight)
    g.out_channels = size[0] // groups
    g.kernel_h = size[2]
    g.kernel_w = size[3]
    size = cnp.PyArray_DIMS(y)
    g.out_height = size[2]
    g.out_width = size[3]
    g.stride_h = stride_h
    g.stride_w = stride_w
    g.top = top
    g.left = left
    g.dilation_h = dilation_h
    g.dilation_w = dilation_w
    return g
