/* The cross-entropy of the softmax, and its gradient. */

#include "lenet.h"

/* Of the labels, in nats: `losses` and `correct` of each image, and `g_logits`, the gradient of the sum over all images
 * of `scale` times the loss. Label smoothing changes the gradient only. */
void cross_entropy(int n, int classes, const float *logits, const int64_t *labels, float smoothing, float scale,
                   float *losses, int *correct, float *g_logits) {
    for (int i = 0; i < n; i++) {
        const float *z = &logits[(size_t)i * classes];
        float *g = &g_logits[(size_t)i * classes];
        int label = (int)labels[i], best = 0;
        for (int k = 1; k < classes; k++)
            if (z[k] > z[best]) best = k;
        float largest = z[best], sum = 0;
        for (int k = 0; k < classes; k += LANES) {
            int count = min_int(LANES, classes - k);
            float some[LANES] = {0};
            for (int j = 0; j < count; j++) some[j] = z[k + j] - largest;
            store(some, exponential(load(some)));
            for (int j = 0; j < count; j++) sum += g[k + j] = some[j];
        }
        losses[i] = logf(sum) + (largest - z[label]);
        correct[i] = best == label;
        float rest = smoothing / (float)classes;
        for (int k = 0; k < classes; k++) g[k] = (g[k] / sum - rest) * scale;
        g[label] -= (1 - smoothing) * scale;
    }
}
