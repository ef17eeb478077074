/* What the processor could do at most: multiply-adds of vectors that never leave the registers. */

#include "lenet.h"

enum { CHAINS = REGISTERS == 32 ? 24 : 12 }; /* that do not wait for each other */

/* Make `rounds` rounds on each thread and return the floating-point operations of all of them. */
double lenet_peak(int64_t rounds, int threads) {
    float total = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : total)
    for (int t = 0; t < threads; t++) {
        lanes sum[CHAINS], factor = all(0.999999f + 1e-9f * (float)t), term = all(1e-9f);
        UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = all((float)c);
        for (int64_t r = 0; r < rounds; r++)
            UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * factor + term;
        UNROLL for (int c = 0; c < CHAINS; c++) total += sum[c][0];
    }
    double operations = 2.0 * CHAINS * LANES * (double)rounds * threads;
    return total == 0 ? -operations : operations; /* the sums are needed, or the compiler would leave them out */
}
