"""Padded, phase-split copies of images: what makes every convolution a shifted multiply-accumulate.

An image row runs into the next one at a fixed pitch, so the pixel that a tap needs for output pixel
q = row*pitch + column is q + (a constant of that tap). Padding is written out as zeros, and for stride s the
image is split into s x s phases (every s-th row and column), each a plane of its own in which neighbouring
outputs have neighbouring inputs. A cropping (negative) padding needs no special case.
"""

from libc.string cimport memset

from fastconv.simd cimport LANES, real, vcopy, vload_pairs, vload_strided, vreal, vstore, vstore_partial, vstore_some


cdef struct Planes:
    # The source: one group's channels of one image, C order.
    Py_ssize_t height
    Py_ssize_t width
    # Plane pixel (i, j) of phase (a, b) is source pixel (i*stride_h + a*1 - top, j*stride_w + b - left).
    Py_ssize_t stride_h
    Py_ssize_t stride_w
    Py_ssize_t top
    Py_ssize_t left
    # The copy: rows and columns of a phase plane, and how many phases there are.
    Py_ssize_t rows
    Py_ssize_t pitch
    Py_ssize_t phases
    const Py_ssize_t* phase_row     # source row of each phase, 0 <= . < stride_h
    const Py_ssize_t* phase_column


# How much of the target's padding holds its zeros already, from the image before, say, or because the memory is new and
# cleared: in the columns beside the image it stays zero; the rows above and below change with the band.
cdef enum:
    NO_PADDING = 0
    ALL_PADDING = 1
    SIDE_PADDING = 2


cdef inline void copy_strided(real* target, const real* source, Py_ssize_t count, Py_ssize_t stride) noexcept nogil:
    """Every `stride`-th element, side by side."""
    cdef Py_ssize_t i = 0
    cdef int n
    if stride == 1:
        vcopy(target, source, count)
        return
    while i < count:
        n = <int>min(<Py_ssize_t>LANES, count - i)
        vstore_some(target + i, vload_strided(source + i * stride, stride, n), n)
        i += LANES


cdef inline void copy_planes(
    const Planes* planes, const real* image, Py_ssize_t channels, Py_ssize_t first_row,
    real* target, Py_ssize_t plane_size, int padded,
) noexcept nogil:
    """Rows first_row .. first_row + rows of every phase of every channel, `plane_size` elements apart.

    Of the padding only what is not there yet, as `padded` says, is written.
    """
    cdef Py_ssize_t c, f, i, source_row, low, high, start
    cdef const real* source
    cdef real* row
    for f in range(planes.phases):
        # columns [low, high) of the plane lie in the image
        start = planes.phase_column[f] - planes.left
        low = max(0, -start)
        high = max(0, planes.width - start)
        if planes.stride_w > 1:
            low = (low + planes.stride_w - 1) // planes.stride_w
            high = (high + planes.stride_w - 1) // planes.stride_w
        low = min(low, planes.pitch)
        high = max(low, min(high, planes.pitch))
        for c in range(channels):
            row = target + (c * planes.phases + f) * plane_size
            for i in range(planes.rows):
                source_row = (first_row + i) * planes.stride_h + planes.phase_row[f] - planes.top
                if source_row < 0 or source_row >= planes.height:
                    if padded != ALL_PADDING:
                        memset(row, 0, planes.pitch * sizeof(real))
                    row += planes.pitch
                    continue
                source = image + (c * planes.height + source_row) * planes.width + start
                if padded == NO_PADDING:
                    memset(row, 0, low * sizeof(real))
                    memset(row + high, 0, (planes.pitch - high) * sizeof(real))
                copy_strided(row + low, source + low * planes.stride_w, high - low, planes.stride_w)
                row += planes.pitch


cdef inline void copy_pairs(
    const Planes* planes, const real* image, Py_ssize_t channels, Py_ssize_t first_row,
    real* target, Py_ssize_t plane_size, int padded,
) noexcept nogil:
    """copy_planes for a column stride of 2 and both of its phases: a row is read once for the two of them."""
    cdef Py_ssize_t skip = max(0, -planes.left), left = skip + planes.left, count = max(0, planes.width - skip)
    # Of each two neighbours in the image, where they lie in the planes, and how many of them there are.
    cdef Py_ssize_t first = left // 2 + (plane_size if left % 2 else 0)
    cdef Py_ssize_t second = (left + 1) // 2 + (0 if left % 2 else plane_size)
    cdef Py_ssize_t firsts = max(0, min((count + 1) // 2, planes.pitch - left // 2))
    cdef Py_ssize_t seconds = max(0, min(count // 2, planes.pitch - (left + 1) // 2))
    cdef Py_ssize_t _, a, i, j, source_row, whole = seconds - seconds % LANES
    cdef const real* source
    cdef vreal one, other
    cdef int rest = <int>(seconds - whole)
    for _ in range(channels):
        for a in range(planes.phases // 2):
            for i in range(planes.rows):
                source_row = (first_row + i) * planes.stride_h + planes.phase_row[2 * a] - planes.top
                if padded == NO_PADDING or padded == SIDE_PADDING and not 0 <= source_row < planes.height:
                    memset(target, 0, planes.pitch * sizeof(real))
                    memset(target + plane_size, 0, planes.pitch * sizeof(real))
                if 0 <= source_row < planes.height:
                    source = image + source_row * planes.width + skip
                    j = 0
                    while j < whole:
                        vload_pairs(source + 2 * j, LANES, &one, &other)
                        vstore(target + first + j, one)
                        vstore(target + second + j, other)
                        j += LANES
                    if rest > 0:
                        vload_pairs(source + 2 * whole, rest, &one, &other)
                        vstore_partial(target + first + whole, one, rest)
                        vstore_partial(target + second + whole, other, rest)
                    if firsts > seconds:
                        target[first + seconds] = source[2 * seconds]
                target += planes.pitch
            target += 2 * plane_size - planes.rows * planes.pitch
        image += planes.height * planes.width
