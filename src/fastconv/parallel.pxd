"""How large a team of threads a piece of work deserves.

The number of threads decides who computes a task, never how the work is cut into tasks or in which order
sums are added: results do not depend on it.
"""

# Starting and joining a team costs a few microseconds, and on a busy machine the wait for a core: work of fewer
# multiply-adds, or of what takes as long as so many, stays on the calling thread.
cdef enum:
    SMALL_WORK = 5000000


cdef inline int team_size(double work, Py_ssize_t tasks, int threads) noexcept nogil:
    if threads <= 1 or tasks <= 1 or work < SMALL_WORK:
        return 1
    return <int>min(<Py_ssize_t>threads, tasks)
