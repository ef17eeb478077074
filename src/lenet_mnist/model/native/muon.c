/* Muon on the weights of C3, C5 and F6, as in training/muon.py. It moves the weights of a layer along their momentum,
 * made orthogonal: from X = momentum / |momentum|, five times X <- a X + (b G + c G G) X, where G = X X^T.
 *
 * Each step multiplies X from the left by a polynomial P of G. All of these commute: the next G is P G P. So first the
 * product Q of the five polynomials is computed, from squares of units x units, which are symmetric: little more than
 * half of each. Then X is multiplied by Q. This loses precision in the weakest directions: they are right to 1e-2 of the
 * strongest.
 *
 * One thread computes Q of C5, another one that of the others: threads that shared out the rows of each square would
 * wait for each other's half of it. */

#include "product.h"
#include "threads.h"

enum {
    STEPS = 5,
    LAYERS = 3, /* C3, C5 and F6; none has more units than inputs */
    WIDTH = TILE_VECTORS * LANES,
    /* From one row of a square to the next: an odd number of lines, or a column would lie in few sets of the cache. */
    STRIDE = WIDE5 + LONGEST,
};
static const float A = 3.4445f, B = -4.7750f, C = 2.0315f, EPS = 1e-7f;

typedef float Square[WIDE5 * STRIDE]; /* in whole vectors; behind the units of its layer it holds zeros */

typedef struct {
    _Alignas(LINE) float update[UNITS5 * FEATURES]; /* X, before it is divided by its length */
    float transposed[FEATURES * STRIDE];            /* and in the end its direction */
    Square gram, between, p, q[2];                  /* q: of the polynomials so far, and of those before */
    float length;
} Workspace;

typedef struct {
    int units, inputs, wide; /* units, in whole vectors */
    const float *gradient;
    float *weights, *momentum;
    Workspace *at;
} Layer;

typedef struct {
    Layer layers[LAYERS];
    float momentum, rate, decay, adam_rate, adam_steps;
} Muon;

/* left x right, which is symmetric: computed right of the diagonal and in the tiles on it, and copied from there. */
static void symmetric(const Layer *layer, int depth, Left left, const float *right, Square out) {
    for (int i = 0; i < layer->wide; i += TILE_ROWS) {
        int from = i / WIDTH * WIDTH;
        Left rows = {&left.at[i * left.row], left.row, left.depth};
        product(TILE_ROWS, depth, layer->wide - from, rows, (Right){&right[from], STRIDE}, NULL,
                (Out){&out[i * STRIDE + from], STRIDE});
        for (int j = from + WIDTH; j < layer->wide; j++)
            for (int r = i; r < i + TILE_ROWS; r++) out[j * STRIDE + r] = out[r * STRIDE + j];
    }
}

static void multiply(const Layer *layer, const Square left, const Square right, Square out) {
    symmetric(layer, layer->units, (Left){left, STRIDE, 1}, right, out);
}

/* The update, the mean of momentum and gradient (Nesterov), and the product of the polynomials of its five steps. */
static void polynomials(const Muon *muon, const Layer *layer) {
    Workspace *at = layer->at;
    int units = layer->units, inputs = layer->inputs;
    float squares = 0;
    memset(at->transposed, 0, inputs * STRIDE * sizeof(float));
    for (int i = 0; i < units; i++) {
        const float *momentum = &layer->momentum[i * inputs], *gradient = &layer->gradient[i * inputs];
        float *row = &at->update[i * inputs];
        for (int j = 0; j < inputs; j++) row[j] = muon->momentum * momentum[j] + (1 - muon->momentum) * gradient[j];
        for (int j = 0; j < inputs; j++) at->transposed[j * STRIDE + i] = row[j];
    }
    symmetric(layer, inputs, (Left){at->transposed, 1, STRIDE}, at->transposed, at->gram);
    for (int i = 0; i < units; i++) squares += at->gram[i * STRIDE + i];
    at->length = sqrtf(squares) + EPS;
    for (int i = 0; i < units * STRIDE; i++) at->gram[i] *= 1 / (at->length * at->length);
    for (int step = 0; step < STEPS; step++) {
        float *gram = at->gram, *p = at->p;
        if (step > 0) {
            multiply(layer, p, gram, at->between);
            multiply(layer, at->between, p, gram);
        }
        multiply(layer, gram, gram, p);
        for (int i = 0; i < units; i++) {
            for (int j = 0; j < layer->wide; j++) p[i * STRIDE + j] = B * gram[i * STRIDE + j] + C * p[i * STRIDE + j];
            p[i * STRIDE + i] += A;
        }
        if (step == 0) memcpy(at->q[0], p, sizeof(Square));
        else multiply(layer, at->q[(step - 1) % 2], p, at->q[step % 2]);
    }
}

/* One part takes C5, the other one C3 and F6, which together are less work. */
static void prepare(void *muon, int part, int parts) {
    uint64_t mode = without_subnormals();
    const Layer *layers = ((const Muon *)muon)->layers;
    for (int n = part; n < LAYERS; n += parts) polynomials(muon, &layers[n]);
    restore(mode);
}

/* Some rows of each layer: of the product of Q and X, and of the weights. */
static void move(void *given, int part, int parts) {
    const Muon *muon = given;
    uint64_t mode = without_subnormals();
    for (const Layer *layer = muon->layers; layer < &muon->layers[LAYERS]; layer++) {
        Workspace *at = layer->at;
        int inputs = layer->inputs, first = share(layer->units, part, parts);
        int rows = share(layer->units, part + 1, parts) - first;
        float kept = 1 - muon->rate * muon->decay, factor = muon->rate / at->length;
        float *weights = &layer->weights[first * inputs], *direction = &at->transposed[first * inputs];
        const float *q = &at->q[(STEPS - 1) % 2][first * STRIDE];
        product(rows, layer->units, inputs, (Left){q, STRIDE, 1}, (Right){at->update, inputs}, NULL,
                (Out){direction, inputs});
        for (int i = 0; i < rows * inputs; i++) weights[i] = kept * weights[i] - factor * direction[i];
    }
    restore(mode);
}

/* The bytes of the workspace of `lenet_muon`; its contents are the function's. */
int64_t lenet_muon_workspace(void) { return LAYERS * sizeof(Workspace); }

/* AdamW, as in training/optimizer.py. */
static void adamw(const Muon *muon, int count, const float *gradient, float *weights, float *mean, float *square) {
    float kept = 1 - muon->adam_rate * muon->decay, rate = muon->adam_rate / (1 - pow(0.9, muon->adam_steps));
    float correction = 1 / (1 - pow(0.999, muon->adam_steps));
    for (int i = 0; i < count; i++) {
        mean[i] += 0.1f * (gradient[i] - mean[i]);
        square[i] += 0.001f * (gradient[i] * gradient[i] - square[i]);
        weights[i] = kept * weights[i] - rate * mean[i] / (sqrtf(correction * square[i]) + 1e-8f);
    }
}

/* One update of all `count` weights; of those of C3, C5 and F6 only if it `moves`, and else of their momenta. Gradient,
 * weights and momenta are flat, in the order of the state dict; mean and square are Adam's, of all other weights. */
void lenet_muon(int count, const float *gradient, float *const *tensors, float momentum, float rate, float decay,
                float adam_rate, float adam_steps, int moves, void *workspace, int threads) {
    static const int units[LAYERS] = {MAPS3, UNITS5, UNITS6};
    static const int inputs[LAYERS] = {MAPS1 * KERNEL * KERNEL, FEATURES, UNITS5};
    float *weights = tensors[0], *momenta = tensors[1], *mean = tensors[2], *square = tensors[3];
    Muon muon = {{{0}}, momentum, rate, decay, adam_rate, adam_steps};
    int at = 0, others = MAPS1 * (KERNEL * KERNEL + 1); /* C1's weights and biases, and then the biases of each layer */
    for (int n = 0; n <= LAYERS; n++) {
        adamw(&muon, others, &gradient[at], &weights[at], mean, square);
        at += others, mean += others, square += others;
        if (n == LAYERS) break;
        for (int i = at; i < at + units[n] * inputs[n]; i++)
            momenta[i] = momentum * momenta[i] + (1 - momentum) * gradient[i];
        int wide = (units[n] + LONGEST - 1) / LONGEST * LONGEST;
        muon.layers[n] = (Layer){units[n], inputs[n], wide, &gradient[at], &weights[at], &momenta[at],
                                 &((Workspace *)workspace)[n]};
        at += units[n] * inputs[n];
        others = n + 1 < LAYERS ? units[n] : count - at;
    }
    if (!moves) return;
    run_parts(min_int(threads, 2), prepare, &muon);
    run_parts(threads, move, &muon);
}
