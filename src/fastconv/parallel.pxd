"""How large a team of threads a piece of work deserves.

The number of threads decides who computes a task, never how the work is cut into tasks or in which order
sums are added: results do not depend on it.
"""

# Starting and joining a team costs about a microsecond, and as much again to wake a thread: work below
# this many operations (multiply-adds, or elements moved) is faster on the calling thread.
cdef enum:
    SMALL_WORK = 2000000


cdef inline int team_size(double work, Py_ssize_t tasks, int threads) noexcept nogil:
    if threads <= 1 or tasks <= 1 or work < SMALL_WORK:
        return 1
    return <int>min(<Py_ssize_t>threads, tasks)
