/* What a page calls: a network that trains, on the C files of model/native, on one thread. */

#include <stdlib.h>

#include "../model/native/lenet.h"
#include "../model/native/threads.h"
#include "random.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

int64_t lenet_workspace(int n, int classes, int threads);
void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, float *logits, int threads);
int lenet_gradient(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, const int64_t *labels, float smoothing, float scale, float *const *gradients,
                   float sums[2], int threads);

enum { PIXELS = SIDE * SIDE, NUM_PARAMETERS = 10, MOST_CLASSES = 100 };

void run_parts(int parts, Task *task, void *argument) {
    for (int part = 0; part < parts; part++) task(argument, part, parts);
}

/* A network and its optimizer. The arrays are flat, in the order of the state dict. */
typedef struct {
    int classes, num_weights, capacity;
    Activation activation;
    double num_updates;
    float *weights, *gradient, *memory[2];
    float *parameters[NUM_PARAMETERS], *gradients[NUM_PARAMETERS];
    float *images, *logits, *losses;
    int64_t *labels;
    int *correct;
    char *workspace;
} Network;

static int size_of(int parameter, int classes) {
    const int sizes[] = {MAPS1 * KERNEL * KERNEL, MAPS1,  MAPS3 * MAPS1 * KERNEL * KERNEL, MAPS3, UNITS5 * FEATURES,
                         UNITS5, UNITS6 * UNITS5, UNITS6, classes * UNITS6, classes};
    return sizes[parameter];
}

/* Return memory for the page, on a line of the cache, or NULL. */
void *EXPORT(lab_allocate)(size_t bytes) { return aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE); }

void EXPORT(lab_release)(void *memory) { free(memory); }

/* Return a network for batches of up to `capacity` images, or NULL if there is no memory for it. */
Network *EXPORT(lab_network)(Activation activation, int classes, int capacity) {
    int num_weights = 0;
    for (int p = 0; p < NUM_PARAMETERS; p++) num_weights += size_of(p, classes);
    size_t n = (size_t)capacity, w = (size_t)(num_weights + LONGEST - 1) / LONGEST * LONGEST;
    size_t floats = 4 * w + n * (PIXELS + (size_t)classes + 2) + 16 * LONGEST;
    size_t bytes = sizeof(Network) + LINE + floats * sizeof(float) + n * (sizeof(int64_t)) + LINE +
                   (size_t)lenet_workspace(capacity, classes, 1);
    Network *network = lab_allocate(bytes);
    if (network == NULL) return NULL;
    memset(network, 0, bytes);
    *network = (Network){.classes = classes, .num_weights = num_weights, .capacity = capacity, .activation = activation};
    char *place = (char *)network + (sizeof(Network) + LINE - 1) / LINE * LINE;
    float **arrays[] = {&network->weights, &network->gradient, &network->memory[0], &network->memory[1]};
    for (int a = 0; a < 4; a++, place += w * sizeof(float)) *arrays[a] = (float *)place;
    network->workspace = place;
    place += lenet_workspace(capacity, classes, 1);
    network->images = (float *)place;
    network->labels = (int64_t *)(network->images + n * PIXELS);
    network->logits = (float *)(network->labels + n);
    network->losses = network->logits + n * (size_t)classes;
    network->correct = (int *)(network->losses + n);
    for (int p = 0, offset = 0; p < NUM_PARAMETERS; offset += size_of(p++, classes)) {
        network->parameters[p] = network->weights + offset;
        network->gradients[p] = network->gradient + offset;
    }
    return network;
}

float *EXPORT(lab_weights)(Network *network) { return network->weights; }
float *EXPORT(lab_gradient)(Network *network) { return network->gradient; }
float *EXPORT(lab_losses)(Network *network) { return network->losses; }
float *EXPORT(lab_logits)(Network *network) { return network->logits; }
int EXPORT(lab_num_weights)(Network *network) { return network->num_weights; }

/* Begin anew: the starting weights of a seed, as `initialise` in model/lenet.py draws them. */
void EXPORT(lab_begin)(Network *network, double seed) {
    static Generator generator;
    const int ins[] = {KERNEL * KERNEL, MAPS1 * KERNEL * KERNEL, FEATURES, UNITS5, UNITS6};
    const int outs[] = {MAPS1 * KERNEL * KERNEL, MAPS3 * KERNEL * KERNEL, UNITS5, UNITS6, network->classes};
    size_t bytes = (size_t)network->num_weights * sizeof(float);
    for (int a = 0; a < 2; a++) memset(network->memory[a], 0, bytes);
    memset(network->weights, 0, bytes);
    network->num_updates = 0;
    seed_generator(&generator, (uint64_t)seed, INITIALISATION);
    for (int layer = 0; layer < 5; layer++) {
        int is_relu = network->activation == RELU, p = 2 * layer;
        if (is_relu && p == W_OUT) continue;
        double deviation = is_relu ? sqrt(2.0) / sqrt(ins[layer]) : sqrt(2.0 / (ins[layer] + outs[layer]));
        uniform(&generator, sqrt(3.0) * deviation, size_of(p, network->classes), network->parameters[p]);
    }
}

/* The order of the training images in an epoch, counted from 1. `spare` has room for 6 x `count` words. */
void EXPORT(lab_order)(double seed, int epoch, int count, uint32_t *order, uint32_t *spare) {
    random_order((uint64_t)seed, ORDER, epoch, count, order, spare);
}

/* The same for the images of the probe: its first 512 are looked at. */
void EXPORT(lab_probe_order)(double seed, int count, uint32_t *order, uint32_t *spare) {
    random_order((uint64_t)seed, PROBE, 0, count, order, spare);
}

/* Put some images of a set before the network: those named in `chosen`, whose pixels become `levels[pixel]`. */
void EXPORT(lab_choose)(Network *network, const uint8_t *pixels, const uint8_t *labels, const float levels[256],
                        const uint32_t *chosen, int count) {
    for (int i = 0; i < count; i++) {
        const uint8_t *image = &pixels[(size_t)chosen[i] * PIXELS];
        for (int k = 0; k < PIXELS; k++) network->images[(size_t)i * PIXELS + k] = levels[image[k]];
        network->labels[i] = labels[chosen[i]];
    }
}

/* Of the chosen images: the gradient of their mean loss, and in `sums` the loss of the labels and the images right. */
void EXPORT(lab_backward)(Network *network, int count, float smoothing, float sums[2]) {
    lenet_gradient(count, network->classes, network->activation, network->images,
                   (const float *const *)network->parameters, network->workspace, network->labels, smoothing,
                   1.0f / (float)count, network->gradients, sums, 1);
}

/* Of the chosen images: logits and losses, and how many are classified right. */
int EXPORT(lab_forward)(Network *network, int count) {
    static float unused[MOST_CLASSES];
    int right = 0, classes = network->classes;
    lenet_forward(count, classes, network->activation, network->images, (const float *const *)network->parameters,
                  network->workspace, network->logits, 1);
    for (int i = 0; i < count; i++) {
        cross_entropy(1, classes, &network->logits[i * classes], &network->labels[i], 0, 1, &network->losses[i],
                      &network->correct[i], unused);
        right += network->correct[i];
    }
    return right;
}

static double sum_of_squares(const float *values, int count) {
    float sums[16] = {0};
    for (int k = 0; k < count; k++) sums[k % 16] += values[k] * values[k];
    double sum = 0;
    for (int k = 0; k < 16; k++) sum += sums[k];
    return sum;
}

/* The norm of the gradient of each layer's weights, and that of the whole gradient. */
void EXPORT(lab_norms)(const Network *network, float norms[NUM_PARAMETERS / 2 + 1]) {
    double whole = 0;
    for (int p = 0; p < NUM_PARAMETERS; p++) {
        double sum = sum_of_squares(network->gradients[p], size_of(p, network->classes));
        if (p % 2 == 0) norms[p / 2] = (float)sqrt(sum);
        whole += sum;
    }
    norms[NUM_PARAMETERS / 2] = (float)sqrt(whole);
}

/* Whether an activation whose value is `y` has a slope of at most a twentieth of the largest (training/probe.py). */
static int is_flat(float y, Activation activation) {
    switch (activation) {
    case SIGMOID: return y * (1 - y) <= 0.05f * 0.25f;
    case TANH:    return 1 - y * y <= 0.05f;
    default:      return y <= 0;
    }
}

/* After `lab_forward` with as many images: add to `flat` how many values of S2, S4, C5 and F6 are flat, and mark in
 * `alive` the units of these layers, 6 + 16 + 120 + 84, that are not flat somewhere. */
void EXPORT(lab_probe)(const Network *network, int count, uint32_t flat[4],
                       uint8_t alive[MAPS1 + MAPS3 + UNITS5 + UNITS6]) {
    const Activations *acts = (const Activations *)network->workspace; /* lenet.c begins its workspace with them */
    Activation activation = network->activation;
    for (int i = 0; i < count; i++) {
        const Activations *a = &acts[i];
        for (int place = 0; place < SIDE1 * SIDE1; place++)
            for (int c = 0; c < MAPS1; c++) {
                int f = is_flat(a->s2[place * PIXEL + c], activation);
                flat[0] += (uint32_t)f;
                alive[c] |= !f;
            }
        for (int k = 0; k < FEATURES; k++) {
            int f = is_flat(a->s4[k], activation);
            flat[1] += (uint32_t)f;
            alive[MAPS1 + k / WINDOWS3] |= !f;
        }
        for (int u = 0; u < UNITS5; u++) {
            int f = is_flat(a->c5[u], activation);
            flat[2] += (uint32_t)f;
            alive[MAPS1 + MAPS3 + u] |= !f;
        }
        for (int u = 0; u < UNITS6; u++) {
            int f = is_flat(a->f6[u], activation);
            flat[3] += (uint32_t)f;
            alive[MAPS1 + MAPS3 + UNITS5 + u] |= !f;
        }
    }
}

/* Stochastic gradient descent with momentum, as torch.optim.SGD. */
void EXPORT(lab_sgd)(Network *network, float rate, float momentum, int is_nesterov, float decay) {
    float *velocity = network->memory[0];
    for (int k = 0; k < network->num_weights; k++) {
        float gradient = network->gradient[k] + decay * network->weights[k];
        velocity[k] = network->num_updates == 0 ? gradient : momentum * velocity[k] + gradient;
        network->weights[k] -= rate * (is_nesterov ? gradient + momentum * velocity[k] : velocity[k]);
    }
    network->num_updates++;
}

/* Adam, as torch.optim.Adam; with its decay apart from the gradient, as torch.optim.AdamW. */
void EXPORT(lab_adam)(Network *network, float rate, float decay, int is_apart) {
    const float beta1 = 0.9f, beta2 = 0.999f;
    float *mean = network->memory[0], *square = network->memory[1];
    network->num_updates++;
    float step = (float)(rate / (1 - pow(0.9, network->num_updates)));
    float root = (float)sqrt(1 - pow(0.999, network->num_updates));
    for (int k = 0; k < network->num_weights; k++) {
        float gradient = network->gradient[k] + (is_apart ? 0 : decay * network->weights[k]);
        if (is_apart) network->weights[k] -= rate * decay * network->weights[k];
        mean[k] += (1 - beta1) * (gradient - mean[k]);
        square[k] = beta2 * square[k] + (1 - beta2) * gradient * gradient;
        network->weights[k] -= step * mean[k] / (sqrtf(square[k]) / root + 1e-8f);
    }
}

/* The whole maps of a convolution, as the lecture draws them. Lecture point 4:
 * F(i, j, c) = b_c + sum over m, n, k of I(i + m, j + n, k) w_c(m, n, k). Shapes: in `channels` x side x side. */
static void whole_maps(const float *in, int channels, int side, int padding, const float *w, const float *b, int maps,
                       float *out) {
    int size = side + 2 * padding - KERNEL + 1;
    for (int c = 0; c < maps; c++)
        for (int i = 0; i < size; i++)
            for (int j = 0; j < size; j++) {
                float sum = b[c];
                for (int k = 0; k < channels; k++)
                    for (int m = 0; m < KERNEL; m++)
                        for (int n = 0; n < KERNEL; n++) {
                            int row = i + m - padding, column = j + n - padding;
                            if (row < 0 || column < 0 || row >= side || column >= side) continue;
                            sum += in[(k * side + row) * side + column] * w[((c * channels + k) * KERNEL + m) * KERNEL + n];
                        }
                out[(c * size + i) * size + j] = sum;
            }
}

/* Lecture point 7: the maximum of 2 x 2, every 2 pixels. */
static void max_pool(const float *in, int maps, int side, float *out) {
    int size = side / 2;
    for (int c = 0; c < maps; c++)
        for (int i = 0; i < size; i++)
            for (int j = 0; j < size; j++) {
                const float *p = &in[(c * side + 2 * i) * side + 2 * j];
                out[(c * size + i) * size + j] = fmaxf(fmaxf(p[0], p[1]), fmaxf(p[side], p[side + 1]));
            }
}

static void dense(const float *in, int inputs, const float *w, const float *b, int units, float *out) {
    for (int u = 0; u < units; u++) {
        out[u] = b[u];
        for (int k = 0; k < inputs; k++) out[u] += in[k] * w[u * inputs + k];
    }
}

/* Of one image, normalised: the outputs of C1, S2, C3, S4, C5, F6 and the logits, one behind the other. */
void EXPORT(lab_layers)(const Network *network, const float *image, float *out) {
    enum { SIZE3 = SIDE1 - KERNEL + 1 };
    float *const *w = network->parameters;
    float *c1 = out, *s2 = c1 + MAPS1 * PIXELS, *c3 = s2 + MAPS1 * SIDE1 * SIDE1, *s4 = c3 + MAPS3 * SIZE3 * SIZE3;
    float *c5 = s4 + FEATURES, *f6 = c5 + UNITS5;
    whole_maps(image, 1, SIDE, KERNEL / 2, w[W1], w[B1], MAPS1, c1);
    activate_all(c1, MAPS1 * PIXELS, network->activation);
    max_pool(c1, MAPS1, SIDE, s2);
    whole_maps(s2, MAPS1, SIDE1, 0, w[W3], w[B3], MAPS3, c3);
    activate_all(c3, MAPS3 * SIZE3 * SIZE3, network->activation);
    max_pool(c3, MAPS3, SIZE3, s4);
    dense(s4, FEATURES, w[W5], w[B5], UNITS5, c5);
    activate_all(c5, UNITS5, network->activation);
    dense(c5, UNITS5, w[W6], w[B6], UNITS6, f6);
    activate_all(f6, UNITS6, network->activation);
    dense(f6, UNITS6, w[W_OUT], w[B_OUT], network->classes, f6 + UNITS6);
}
