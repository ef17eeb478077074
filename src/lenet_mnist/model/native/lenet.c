/* The network in C, from N images of 28 x 28 to their logits, and back from the gradient of the logits to the gradients
 * of the ten parameters. Loss, optimizer and everything else stay PyTorch's.
 *
 * Threads share out the images, but each sum over images that is not made by one thread alone is added up in a fixed
 * order: results are the same, bit for bit, for the same number of threads. */

#include "lenet.h"

/* So many images go through the convolutions, and then through the dense layers while they are still in the cache. */
enum { BLOCK = 32 };

static int wide_out(int classes) { return (classes + LONGEST - 1) / LONGEST * LONGEST; }

/* The bytes that the caller must allocate: `kept` and `errors` for an image, `sums` for a thread, `weights`. */
void lenet_sizes(int classes, int64_t sizes[4]) {
    sizes[0] = sizeof(Kept);
    sizes[1] = sizeof(Errors);
    sizes[2] = sizeof(Sums);
    sizes[3] = sizeof(Weights) + (UNITS6 + 1) * (size_t)wide_out(classes) * sizeof(float);
}

void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   Kept *kept, Weights *weights, float *logits, int threads) {
    features_deal_out(parameters, weights);
    weights->wide_out = wide_out(classes);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) classifier_deal_out(t, threads, parameters, classes, weights);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        int last = share(n, t + 1, threads);
        for (int from = share(n, t, threads); from < last; from += BLOCK) {
            int count = smaller(BLOCK, last - from);
            for (int i = from; i < from + count; i++)
                features_forward(&images[(size_t)i * SIDE * SIDE], weights, activation, &kept[i]);
            classifier_forward(count, classes, weights, activation, &kept[from], &logits[(size_t)from * classes]);
        }
        restore(mode);
    }
}

/* `n` is at least 1. */
void lenet_backward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                    const Kept *kept, const float *g_logits, Errors *errors, Sums *sums, float *const *gradients,
                    int threads) {
    Kernels kernels;
    features_deal_out_kernels(parameters[W3], kernels);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        memset(&sums[t], 0, sizeof(Sums));
        int last = share(n, t + 1, threads);
        for (int from = share(n, t, threads); from < last; from += BLOCK) {
            int count = smaller(BLOCK, last - from);
            classifier_errors(count, classes, activation, parameters, &kept[from], &g_logits[(size_t)from * classes],
                              &errors[from]);
            for (int i = from; i < from + count; i++)
                features_backward(&images[(size_t)i * SIDE * SIDE], kernels, activation, &kept[i], &errors[i],
                                  &sums[t]);
        }
        restore(mode);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        uint64_t mode = without_subnormals();
        classifier_gradients(t, threads, n, classes, kept, g_logits, errors, gradients);
        restore(mode);
    }
    uint64_t mode = without_subnormals();
    features_gradients(threads, sums, gradients);
    restore(mode);
}
