/* Muon's directions: for the momentum of a layer's weights, a matrix near it whose rows are almost orthogonal and of
 * length 1. As in training/muon.py: from X = momentum / |momentum|, five times X <- a X + (b G + c G G) X, G = X X^T.
 *
 * Each step multiplies X from the left by a polynomial P of G. All of these commute: the next G is P G P. So only
 * squares of units x units are computed, and in the end X is multiplied once, by the product Q of the five: half of the
 * operations for C5. It costs digits of the weakest directions, which are right to 1e-3 of the strongest. */

#include "product.h"
#include "threads.h"

enum {
    STEPS = 5,
    LAYERS = 3, /* C3, C5 and F6; none has more units than inputs */
    /* From one row of a square to the next: an odd number of lines, or a column would lie in few sets of the cache. */
    STRIDE = WIDE5 + LONGEST,
};
static const float A = 3.4445f, B = -4.7750f, C = 2.0315f;

typedef float Square[UNITS5 * STRIDE];

typedef struct {
    _Alignas(LINE) float transposed[FEATURES * STRIDE];
    Square gram[2], q[2]; /* before a step, and after it */
    Square p, between;
} Squares;

typedef struct {
    int units, inputs;
    const float *x;
    float *direction;
    Squares *squares;
} Layer;

/* What is done with some rows of a layer. */
typedef void Rows(const Layer *layer, int step, int first, int last);

typedef struct {
    Layer layers[LAYERS];
    int step;
    Rows *rows;
} Muon;

/* Rows `first` to `last` of a square times `right`, in whole vectors: behind its units `right` holds zeros. */
static void multiply(const Square square, Right right, Out out, int units, int columns, int first, int last) {
    product(last - first, units, columns, (Left){&square[first * STRIDE], STRIDE, 1}, right, NULL,
            (Out){&out.at[first * out.row], out.row});
}

static int whole_vectors(int units) { return (units + LONGEST - 1) / LONGEST * LONGEST; }

static void multiply_squares(const Square left, const Square right, Square out, int units, int first, int last) {
    multiply(left, (Right){right, STRIDE}, (Out){out, STRIDE}, units, whole_vectors(units), first, last);
}

static void transpose(const Layer *layer, int step, int first, int last) {
    (void)step;
    for (int j = share(layer->inputs, first, layer->units); j < share(layer->inputs, last, layer->units); j++) {
        float *row = &layer->squares->transposed[j * STRIDE];
        for (int i = 0; i < layer->units; i++) row[i] = layer->x[i * layer->inputs + j];
        for (int i = layer->units; i < whole_vectors(layer->units); i++) row[i] = 0;
    }
}

static void first_gram(const Layer *layer, int step, int first, int last) {
    (void)step;
    Left x = {&layer->x[first * layer->inputs], layer->inputs, 1};
    Right transposed = {layer->squares->transposed, STRIDE};
    Out gram = {&layer->squares->gram[0][first * STRIDE], STRIDE};
    product(last - first, layer->inputs, whole_vectors(layer->units), x, transposed, NULL, gram);
}

static void polynomial(const Layer *layer, int step, int first, int last) {
    float *gram = layer->squares->gram[step % 2], *p = layer->squares->p;
    multiply_squares(gram, gram, p, layer->units, first, last);
    for (int i = first; i < last; i++) {
        for (int j = 0; j < layer->units; j += LANES) {
            float *at = &p[i * STRIDE + j];
            store(at, B * load(&gram[i * STRIDE + j]) + C * load(at));
        }
        p[i * STRIDE + i] += A;
    }
}

static void advance(const Layer *layer, int step, int first, int last) {
    Squares *s = layer->squares;
    int units = layer->units, before = step % 2, after = !before;
    if (step == 0) memcpy(&s->q[after][first * STRIDE], &s->p[first * STRIDE], (last - first) * STRIDE * sizeof(float));
    else multiply_squares(s->q[before], s->p, s->q[after], units, first, last);
    if (step < STEPS - 1) {
        multiply_squares(s->p, s->gram[before], s->between, units, first, last);
        multiply_squares(s->between, s->p, s->gram[after], units, first, last);
    } else {
        Right x = {layer->x, layer->inputs};
        multiply(s->q[after], x, (Out){layer->direction, layer->inputs}, units, layer->inputs, first, last);
    }
}

static void share_rows(void *given, int part, int parts) {
    const Muon *muon = given;
    uint64_t mode = without_subnormals();
    for (const Layer *layer = muon->layers; layer < &muon->layers[LAYERS]; layer++)
        muon->rows(layer, muon->step, share(layer->units, part, parts), share(layer->units, part + 1, parts));
    restore(mode);
}

static void on_all_rows(Muon *muon, Rows *rows, int threads) {
    muon->rows = rows;
    run_parts(threads, share_rows, muon);
}

/* The bytes of the workspace of `lenet_muon`; its contents are the function's. */
int64_t lenet_muon_workspace(void) { return LAYERS * sizeof(Squares); }

/* The directions for `x`, the momenta of the weights of C3, C5 and F6, each of length 1. */
void lenet_muon(const float *const *x, float *const *directions, void *workspace, int threads) {
    Squares *squares = workspace;
    Muon muon = {{{MAPS3, MAPS1 * KERNEL * KERNEL, x[0], directions[0], &squares[0]},
                  {UNITS5, FEATURES, x[1], directions[1], &squares[1]},
                  {UNITS6, UNITS5, x[2], directions[2], &squares[2]}},
                 0, NULL};
    on_all_rows(&muon, transpose, threads);
    on_all_rows(&muon, first_gram, threads);
    for (; muon.step < STEPS; muon.step++) {
        on_all_rows(&muon, polynomial, threads);
        on_all_rows(&muon, advance, threads);
    }
}
