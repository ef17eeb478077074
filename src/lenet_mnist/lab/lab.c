/* What a page calls: a network that trains, on the C files of model/native, on one thread. */

#include <stdlib.h>

#include "../model/native/lenet.h"
#include "../model/native/threads.h"
#include "random.h"

int64_t lenet_workspace(int n, int classes, int threads);
void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, float *logits, int threads);
int lenet_gradient(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, const int64_t *labels, float smoothing, float scale, float *const *gradients,
                   float sums[2], int threads);

enum {
    PIXELS = SIDE * SIDE,
    NUM_PARAMETERS = 10,
    MOST_CLASSES = 100,
    CAPACITY = 256, /* images of a batch */
    MOST_WEIGHTS = 69360, /* of 100 classes 69,356, padded to whole vectors */
};

void run_parts(int parts, Task *task, void *argument) {
    for (int part = 0; part < parts; part++) task(argument, part, parts);
}

/* A network and its optimizer. Weights, gradient and memory are flat, in the order of the state dict. */
typedef struct {
    int classes, num_weights;
    Activation activation;
    double num_updates;
    float *parameters[NUM_PARAMETERS], *gradients[NUM_PARAMETERS];
    _Alignas(LINE) float weights[MOST_WEIGHTS], gradient[MOST_WEIGHTS], memory[2][MOST_WEIGHTS];
    float images[CAPACITY * PIXELS], logits[CAPACITY * MOST_CLASSES], losses[CAPACITY];
    int64_t labels[CAPACITY];
    int correct[CAPACITY];
    _Alignas(LINE) char workspace[];
} Network;

static int size_of(int parameter, int classes) {
    const int sizes[] = {MAPS1 * KERNEL * KERNEL, MAPS1,  MAPS3 * MAPS1 * KERNEL * KERNEL, MAPS3, UNITS5 * FEATURES,
                         UNITS5, UNITS6 * UNITS5, UNITS6, classes * UNITS6, classes};
    return sizes[parameter];
}

/* Return memory for the page, on a line of the cache, or NULL. */
void *EXPORT(lab_allocate)(size_t bytes) { return aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE); }

void EXPORT(lab_release)(void *memory) { free(memory); }

/* Return a network, or NULL if there is no memory for it. */
Network *EXPORT(lab_network)(Activation activation, int classes) {
    size_t bytes = sizeof(Network) + (size_t)lenet_workspace(CAPACITY, classes, 1);
    Network *network = lab_allocate(bytes);
    if (network == NULL) return NULL;
    memset(network, 0, bytes);
    network->classes = classes;
    network->activation = activation;
    for (int p = 0; p < NUM_PARAMETERS; p++) {
        network->parameters[p] = network->weights + network->num_weights;
        network->gradients[p] = network->gradient + network->num_weights;
        network->num_weights += size_of(p, classes);
    }
    return network;
}

float *EXPORT(lab_weights)(Network *network) { return network->weights; }
float *EXPORT(lab_losses)(Network *network) { return network->losses; }
float *EXPORT(lab_logits)(Network *network) { return network->logits; }
int EXPORT(lab_num_weights)(Network *network) { return network->num_weights; }

/* Begin anew: the starting weights of a seed, as `initialise` in model/lenet.py draws them. */
void EXPORT(lab_begin)(Network *network, double seed) {
    static Generator generator;
    const int ins[] = {KERNEL * KERNEL, MAPS1 * KERNEL * KERNEL, FEATURES, UNITS5, UNITS6};
    const int outs[] = {MAPS1 * KERNEL * KERNEL, MAPS3 * KERNEL * KERNEL, UNITS5, UNITS6, network->classes};
    memset(network->memory, 0, sizeof network->memory);
    memset(network->weights, 0, sizeof network->weights);
    network->num_updates = 0;
    seed_generator(&generator, (uint64_t)seed, 3); /* Purpose.INITIALISATION in randomness.py */
    for (int layer = 0; layer < 5; layer++) {
        int is_relu = network->activation == RELU, p = 2 * layer;
        if (is_relu && p == W_OUT) continue;
        double deviation = is_relu ? sqrt(2.0) / sqrt(ins[layer]) : sqrt(2.0 / (ins[layer] + outs[layer]));
        uniform(&generator, sqrt(3.0) * deviation, size_of(p, network->classes), network->parameters[p]);
    }
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

/* How many of `units` x `places` values are flat; mark in `alive` the units that are not flat somewhere. */
static int look(const float *values, int units, int places, int next_unit, int next_place, Activation activation,
                uint8_t *alive) {
    int flat = 0;
    for (int u = 0; u < units; u++)
        for (int p = 0; p < places; p++) {
            int is = is_flat(values[u * next_unit + p * next_place], activation);
            flat += is;
            alive[u] |= !is;
        }
    return flat;
}

/* After `lab_forward` with as many images: add to `flat` how many values of S2, S4, C5 and F6 are flat, and mark in
 * `alive` the units of these layers, 6 + 16 + 120 + 84, that are not flat somewhere. */
void EXPORT(lab_probe)(const Network *network, int count, uint32_t flat[4], uint8_t *alive) {
    const Activations *acts = (const Activations *)network->workspace; /* lenet.c begins its workspace with them */
    Activation activation = network->activation;
    for (const Activations *a = acts; a < acts + count; a++) {
        flat[0] += look(a->s2, MAPS1, SIDE1 * SIDE1, 1, PIXEL, activation, alive);
        flat[1] += look(a->s4, MAPS3, WINDOWS3, WINDOWS3, 1, activation, &alive[MAPS1]);
        flat[2] += look(a->c5, UNITS5, 1, 1, 0, activation, &alive[MAPS1 + MAPS3]);
        flat[3] += look(a->f6, UNITS6, 1, 1, 0, activation, &alive[MAPS1 + MAPS3 + UNITS5]);
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

/* Of one image, normalised: the outputs of C1, S2, C3, S4, C5, F6 and the logits, one behind the other. The forward pass
 * keeps of C1 and C3 only what the pooling leaves: their whole maps are for the eye. */
void EXPORT(lab_layers)(Network *network, const float *image, float *out) {
    enum { SIZE3 = SIDE1 - KERNEL + 1 };
    float *const *w = network->parameters;
    float *c1 = out, *s2 = c1 + MAPS1 * PIXELS, *c3 = s2 + MAPS1 * SIDE1 * SIDE1, *s4 = c3 + MAPS3 * SIZE3 * SIZE3;
    float *c5 = s4 + FEATURES, *f6 = c5 + UNITS5, *logits = f6 + UNITS6;
    const Activations *acts = (const Activations *)network->workspace;
    lenet_forward(1, network->classes, network->activation, image, (const float *const *)w, network->workspace, logits, 1);
    for (int k = 0; k < MAPS1 * SIDE1 * SIDE1; k++)
        s2[k] = acts->s2[k % (SIDE1 * SIDE1) * PIXEL + k / (SIDE1 * SIDE1)];
    memcpy(s4, acts->s4, FEATURES * sizeof *s4);
    memcpy(c5, acts->c5, UNITS5 * sizeof *c5);
    memcpy(f6, acts->f6, UNITS6 * sizeof *f6);
    whole_maps(image, 1, SIDE, KERNEL / 2, w[W1], w[B1], MAPS1, c1);
    whole_maps(s2, MAPS1, SIDE1, 0, w[W3], w[B3], MAPS3, c3);
    activate_all(c1, MAPS1 * PIXELS, network->activation);
    activate_all(c3, MAPS3 * SIZE3 * SIZE3, network->activation);
}
