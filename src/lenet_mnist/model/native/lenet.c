/* The network in C, from N images of 28 x 28 to their logits, and back from the gradient of the logits to the gradients
 * of the ten parameters; or both at once, with the loss in between. The optimizer and everything else stay PyTorch's.
 *
 * Threads share the images, but each sum over the images of several threads is made in a fixed order: with the same
 * number of threads, results are the same, bit for bit. */

#include "lenet.h"
#include "threads.h"

/* Images that go through the whole network while what is computed of them is still in the cache. */
enum { BLOCK = 32 };

static int wide_out(int classes) { return (classes + LONGEST - 1) / LONGEST * LONGEST; }

/* What a pass over `n` images reads and writes. */
typedef struct {
    int n, classes;
    Activation activation;
    const float *images;
    const float *const *parameters;

    Kernels *kernels;
    Activations *acts;
    Deltas *deltas;
    Sums *sums; /* of each thread */
    Weights *weights;

    float *logits, *g_logits;
    const int64_t *labels;
    float smoothing, scale;
    float *losses;
    int *correct;
    float *const *gradients;
} Pass;

/* Take `bytes` of a workspace at `*offset`, and move that to the next line of the cache. */
static void *take(char *workspace, size_t bytes, size_t *offset) {
    void *taken = workspace + *offset;
    *offset += (bytes + LINE - 1) / LINE * LINE;
    return taken;
}

/* Let the pass keep in `workspace` what it computes; return the bytes that this takes. */
static size_t lay_out(Pass *p, char *workspace, int threads) {
    size_t offset = 0, n = (size_t)p->n, classes = (size_t)p->classes;
    p->acts = take(workspace, n * sizeof(Activations), &offset);
    p->weights = take(workspace, sizeof(Weights) + (UNITS6 + 1) * (size_t)wide_out(p->classes) * sizeof(float), &offset);
    p->kernels = take(workspace, sizeof(Kernels), &offset);
    p->deltas = take(workspace, n * sizeof(Deltas), &offset);
    p->sums = take(workspace, (size_t)threads * sizeof(Sums), &offset);
    p->logits = take(workspace, n * classes * sizeof(float), &offset);
    p->g_logits = take(workspace, n * classes * sizeof(float), &offset);
    p->losses = take(workspace, n * sizeof(float), &offset);
    p->correct = take(workspace, n * sizeof(int), &offset);
    return offset;
}

/* The bytes of the workspace that the caller must give to the functions below; its contents are theirs. */
int64_t lenet_workspace(int n, int classes, int threads) {
    Pass pass = {.n = n, .classes = classes};
    return (int64_t)lay_out(&pass, NULL, threads);
}

/* ------------------------------------------------------------------------------------- parts of the threads ---- */

static void pack_weights(void *pass, int part, int parts) {
    Pass *p = pass;
    classifier_pack_weights(part, parts, p->parameters, p->classes, p->weights);
}

static void forward_block(const Pass *p, int from, int count) {
    for (int i = from; i < from + count; i++)
        convolution_forward(&p->images[(size_t)i * SIDE * SIDE], p->weights, p->activation, &p->acts[i]);
    classifier_forward(count, p->classes, p->weights, p->activation, &p->acts[from],
                       &p->logits[(size_t)from * p->classes]);
}

static void loss_block(const Pass *p, int from, int count) {
    size_t first = (size_t)from * p->classes;
    cross_entropy(count, p->classes, &p->logits[first], &p->labels[from], p->smoothing, p->scale, &p->losses[from],
                  &p->correct[from], &p->g_logits[first]);
}

static void backward_block(const Pass *p, int from, int count, Sums *sums) {
    classifier_deltas(count, p->classes, p->activation, p->parameters, &p->acts[from],
                      &p->g_logits[(size_t)from * p->classes], &p->deltas[from]);
    for (int i = from; i < from + count; i++)
        convolution_backward(&p->images[(size_t)i * SIDE * SIDE], *p->kernels, p->activation, &p->acts[i],
                             &p->deltas[i], sums);
}

typedef enum { FORWARD = 1, LOSS = 2, BACKWARD = 4 } Steps;

/* Take some steps with a share of the images, block after block. */
INLINE void take_steps(const Pass *p, Steps steps, int part, int parts) {
    uint64_t mode = without_subnormals();
    if (steps & BACKWARD) memset(&p->sums[part], 0, sizeof(Sums));
    int last = share(p->n, part + 1, parts);
    for (int from = share(p->n, part, parts); from < last; from += BLOCK) {
        int count = min_int(BLOCK, last - from);
        if (steps & FORWARD) forward_block(p, from, count);
        if (steps & LOSS) loss_block(p, from, count);
        if (steps & BACKWARD) backward_block(p, from, count, &p->sums[part]);
    }
    restore(mode);
}

static void forward(void *pass, int part, int parts) { take_steps(pass, FORWARD, part, parts); }
static void backward(void *pass, int part, int parts) { take_steps(pass, BACKWARD, part, parts); }
static void there_and_back(void *pass, int part, int parts) { take_steps(pass, FORWARD | LOSS | BACKWARD, part, parts); }

static void sum_gradients(void *pass, int part, int parts) {
    Pass *p = pass;
    uint64_t mode = without_subnormals();
    classifier_gradients(part, parts, p->n, p->classes, p->acts, p->g_logits, p->deltas, p->gradients);
    if (part == parts - 1) convolution_gradients(parts, p->sums, p->gradients);
    restore(mode);
}

/* ----------------------------------------------------------------------------------- what Python calls ---- */

void lenet_forward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, float *logits, int threads) {
    Pass pass = {n, classes, activation, images, parameters, .logits = NULL};
    lay_out(&pass, workspace, threads);
    pass.logits = logits;
    convolution_pack_weights(parameters, pass.weights);
    pass.weights->wide_out = wide_out(classes);
    run_parts(threads, pack_weights, &pass);
    run_parts(threads, forward, &pass);
}

/* After `lenet_forward` with the same numbers and workspace; `n` is at least 1. */
void lenet_backward(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                    void *workspace, float *g_logits, float *const *gradients, int threads) {
    Pass pass = {n, classes, activation, images, parameters, .gradients = gradients};
    lay_out(&pass, workspace, threads);
    pass.g_logits = g_logits;
    convolution_pack_kernels(parameters[W3], *pass.kernels);
    run_parts(threads, backward, &pass);
    run_parts(threads, sum_gradients, &pass);
}

/* The gradients of the sum over all images of `scale` times their loss, which `smoothing` smooths; and in `sums` that of
 * `scale` times the loss of the labels themselves, and how many images are classified right. Returns 0, and does
 * nothing, if a label does not exist; otherwise 1. `n` is at least 1. */
int lenet_gradient(int n, int classes, Activation activation, const float *images, const float *const *parameters,
                   void *workspace, const int64_t *labels, float smoothing, float scale, float *const *gradients,
                   float sums[2], int threads) {
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= classes) return 0;
    Pass pass = {n, classes, activation, images, parameters, .labels = labels, .smoothing = smoothing, .scale = scale,
                 .gradients = gradients};
    lay_out(&pass, workspace, threads);
    convolution_pack_weights(parameters, pass.weights);
    convolution_pack_kernels(parameters[W3], *pass.kernels);
    pass.weights->wide_out = wide_out(classes);
    run_parts(threads, pack_weights, &pass);
    run_parts(threads, there_and_back, &pass);
    run_parts(threads, sum_gradients, &pass);
    double loss = 0;
    int correct = 0;
    for (int i = 0; i < n; i++) {
        loss += pass.losses[i];
        correct += pass.correct[i];
    }
    sums[0] = (float)(loss * scale);
    sums[1] = (float)correct;
    return 1;
}

/* The measured peak: multiply-adds of vectors that never leave the registers, in chains that do not wait for each
 * other. Each thread makes `rounds` rounds; returns the floating-point operations of all of them. */
typedef struct {
    int64_t rounds;
    float *sums; /* of each thread */
} Rounds;

enum { CHAINS = REGISTERS == 32 ? 24 : 12 };

static void multiply_and_add(void *rounds, int part, int parts) {
    Rounds *given = rounds;
    lanes sum[CHAINS], factor = splat(0.999999f + 1e-9f * (float)part), term = splat(1e-9f);
    (void)parts;
    UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = splat((float)c);
    for (int64_t r = 0; r < given->rounds; r++)
        UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * factor + term;
    UNROLL for (int c = 1; c < CHAINS; c++) sum[0] += sum[c];
    given->sums[part] = sum[0][0]; /* the compiler would remove what nothing uses */
}

double lenet_peak(int64_t rounds, float *sums, int threads) {
    run_parts(threads, multiply_and_add, &(Rounds){rounds, sums});
    return 2.0 * CHAINS * LANES * (double)rounds * threads;
}
