"""What the processor can run and how many threads OpenMP would use. Always built for the baseline."""

cdef extern from *:
    """
    #include <omp.h>
    /* Each level asks for every feature that its compiler flags allow. */
    static int supports_v3(void)
    {
    #if !defined(__x86_64__) && !defined(_M_X64)
        return 0;
    #elif defined(__clang__)
        return __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
    #else
        return __builtin_cpu_supports("x86-64-v3") != 0;
    #endif
    }
    static int supports_v4(void)
    {
    #if !defined(__x86_64__) && !defined(_M_X64)
        return 0;
    #elif defined(__clang__)
        return supports_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    #else
        return __builtin_cpu_supports("x86-64-v4") != 0;
    #endif
    }
    """
    int supports_v3() nogil
    int supports_v4() nogil
    int omp_get_max_threads() nogil


def supports(str isa not None):
    """Whether this processor runs the build of that name: "baseline", "avx2" or "avx512"."""
    if isa == "avx2":
        return supports_v3() != 0
    if isa == "avx512":
        return supports_v4() != 0
    return isa == "baseline"


def max_threads():
    """The team that OpenMP itself would use: OMP_NUM_THREADS, or the processors of the affinity mask."""
    return omp_get_max_threads()
