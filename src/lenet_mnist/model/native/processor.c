/* Which of the libraries that come with the package this processor can run. */

#if defined __x86_64__
#include <cpuid.h>

/* 0: any; 1: with AVX2 and FMA; 2: with AVX-512 as well. The system, too, must save such registers. */
int lenet_processor(void) {
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F, DQ, CD, BW, VL */
    unsigned a, b, c, d, saved, above;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 12 /* FMA */) || !(c & 1u << 27 /* xgetbv */)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(above) : "c"(0));
    if ((saved & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5 /* AVX2 */)) return 0;
    return (b & avx512) == avx512 && (saved & 0xe0) == 0xe0 ? 2 : 1;
}
#else
int lenet_processor(void) { return 0; }
#endif
