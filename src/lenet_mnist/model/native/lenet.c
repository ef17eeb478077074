/* The network in C, from N images of 28 x 28 to their logits, and back from the gradient of the logits to the gradients
 * of the ten parameters. Loss, optimizer and everything else stay PyTorch's.
 *
 * Threads share the images, but each sum over the images of several threads is made in a fixed order: with the same
 * number of threads, results are the same, bit for bit. */

#include "lenet.h"

/* Images that go through the convolutions, and then, while they are still in the cache, through the dense layers. */
enum { BLOCK = 32 };

static int wide_out(int classes) { return (classes + LONGEST - 1) / LONGEST * LONGEST; }

/* The bytes that the caller must allocate: `acts` and `deltas` per image, `sums` per thread, `weights`. */
void lenet_sizes(int classes, int64_t sizes[4]) {
    sizes[0] = sizeof(Activations);
    sizes[1] = sizeof(Deltas);
    sizes[2] = sizeof(Sums);
    sizes[3] = sizeof(Weights) + (UNITS6 + 1) * (size_t)wide_out(classes) * sizeof(float);
}

void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   Activations *acts, Weights *weights, float *logits, int threads) {
    convolution_pack_weights(parameters, weights);
    weights->wide_out = wide_out(classes);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) classifier_pack_weights(t, threads, parameters, classes, weights);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        int last = share(n, t + 1, threads);
        for (int from = share(n, t, threads); from < last; from += BLOCK) {
            int count = min_int(BLOCK, last - from);
            for (int i = from; i < from + count; i++)
                convolution_forward(&images[(size_t)i * SIDE * SIDE], weights, activation, &acts[i]);
            classifier_forward(count, classes, weights, activation, &acts[from], &logits[(size_t)from * classes]);
        }
        restore(mode);
    }
}

/* `n` is at least 1. */
void lenet_backward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                    const Activations *acts, const float *g_logits, Deltas *deltas, Sums *sums,
                    float *const *gradients, int threads) {
    Kernels kernels;
    convolution_pack_kernels(parameters[W3], kernels);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        memset(&sums[t], 0, sizeof(Sums));
        int last = share(n, t + 1, threads);
        for (int from = share(n, t, threads); from < last; from += BLOCK) {
            int count = min_int(BLOCK, last - from);
            classifier_deltas(count, classes, activation, parameters, &acts[from],
                              &g_logits[(size_t)from * classes], &deltas[from]);
            for (int i = from; i < from + count; i++)
                convolution_backward(&images[(size_t)i * SIDE * SIDE], kernels, activation, &acts[i], &deltas[i],
                                     &sums[t]);
        }
        restore(mode);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        classifier_gradients(t, threads, n, classes, acts, g_logits, deltas, gradients);
        restore(mode);
    }
    uint64_t mode = without_subnormals();
    convolution_gradients(threads, sums, gradients);
    restore(mode);
}

/* The measured peak: multiply-adds of vectors that never leave the registers, in chains that do not wait for each
 * other. Each thread makes `rounds` rounds; returns the floating-point operations of all of them. */
double lenet_peak(int64_t rounds, int threads) {
    enum { CHAINS = REGISTERS == 32 ? 24 : 12 };
    float total = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : total)
    for (int t = 0; t < threads; t++) {
        lanes sum[CHAINS], factor = splat(0.999999f + 1e-9f * (float)t), term = splat(1e-9f);
        UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = splat((float)c);
        for (int64_t r = 0; r < rounds; r++)
            UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * factor + term;
        UNROLL for (int c = 0; c < CHAINS; c++) total += sum[c][0];
    }
    double operations = 2.0 * CHAINS * LANES * (double)rounds * threads;
    return total == 0 ? -operations : operations; /* the compiler would remove sums that nothing uses */
}
