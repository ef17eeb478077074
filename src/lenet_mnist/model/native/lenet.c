/* The network in C, from N images of 28 x 28 to their logits, and back from the gradient of the logits to the gradients of
 * the ten parameters. Loss, optimizer and everything else stay PyTorch's.
 *
 * Threads share out the images, but each sum over images that is not made by one thread alone is added up in a fixed order:
 * results are the same, bit for bit, for the same number of threads. */

#include "lenet.h"

/* Images that go through the convolutions, and then through the dense layers, while they are still in the cache. */
enum { BLOCK = 32 };

#define WIDE_OUT(classes) ((classes + 15) / 16 * 16)
#define FIRST(t) ((int)((int64_t)n * (t) / threads))

static int smaller(int a, int b) { return a < b ? a : b; }

/* What the caller must allocate: bytes an image, for the forward and for the backward pass; bytes a thread; bytes a pass. */
void lenet_sizes(int classes, int64_t sizes[4]) {
    sizes[0] = sizeof(Image);
    sizes[1] = sizeof(Errors);
    sizes[2] = sizeof(Sums);
    sizes[3] = sizeof(Weights) + (UNITS6 + 1) * WIDE_OUT(classes) * sizeof(float);
}

void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   Image *kept, Weights *weights, float *logits, int threads) {
    features_deal_out(parameters, weights);
    weights->wide_out = WIDE_OUT(classes);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) classifier_deal_out(t, threads, parameters, classes, weights);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++)
        for (int from = FIRST(t); from < FIRST(t + 1); from += BLOCK) {
            int count = smaller(BLOCK, FIRST(t + 1) - from);
            for (int i = from; i < from + count; i++)
                features_forward(&images[(size_t)i * IMAGE * IMAGE], weights, activation, &kept[i]);
            classifier_forward(count, classes, weights, activation, &kept[from], &logits[(size_t)from * classes]);
        }
}

void lenet_backward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                    const Image *kept, const float *g_logits, Errors *errors, Sums *sums, float *const *gradients,
                    int threads) {
    Kernels kernels;
    features_deal_out_kernels(parameters[W3], kernels);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        memset(&sums[t], 0, sizeof(Sums));
        for (int from = FIRST(t); from < FIRST(t + 1); from += BLOCK) {
            int count = smaller(BLOCK, FIRST(t + 1) - from);
            classifier_errors(count, classes, activation, parameters, &kept[from], &g_logits[(size_t)from * classes],
                              &errors[from]);
            for (int i = from; i < from + count; i++)
                features_backward(&images[(size_t)i * IMAGE * IMAGE], kernels, activation, &kept[i], &errors[i], &sums[t]);
        }
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++)
        classifier_gradients(t, threads, n, classes, kept, g_logits, errors, gradients);
    features_gradients(threads, sums, gradients);
}
