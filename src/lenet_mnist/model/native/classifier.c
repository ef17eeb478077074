/* The fully connected block of LeNet: C5, activation, F6, activation, output; from 400 features to the logits and back.
 * It is all one kind of product (product.h). */

#include "product.h"

/* The activations or deltas of one layer, a row per image: where the first row begins, and the distance to the next. */
#define VALUES(layer) acts->layer, sizeof(Activations) / sizeof(float)
#define DELTAS(layer) deltas->layer, sizeof(Deltas) / sizeof(float)

/* The rows `first` to `last` of a layer's weights with lanes along its units: a row holds the weights of one input, the
 * last one, behind all inputs, the biases. */
static void transpose(int first, int last, int inputs, int units, int wide, const float *w, const float *b,
                      float *rows) {
    for (int input = first; input < last; input++) {
        float *row = &rows[(size_t)input * wide];
        for (int unit = 0; unit < units; unit++)
            row[unit] = input < inputs ? w[(size_t)unit * inputs + input] : b[unit];
        for (int unit = units; unit < wide; unit++) row[unit] = 0;
    }
}

/* Two arguments: the first of `count` things that this part takes, and the first that it leaves to the next. */
#define SHARE(count) share(count, part, parts), share(count, part + 1, parts)

/* The share `part` of `parts` of the dense weights as the forward pass reads them. */
void classifier_pack_weights(int part, int parts, const float *const *parameters, int classes, Weights *weights) {
    transpose(SHARE(FEATURES + 1), FEATURES, UNITS5, WIDE5, parameters[W5], parameters[B5], weights->w5);
    transpose(SHARE(UNITS5 + 1), UNITS5, UNITS6, WIDE6, parameters[W6], parameters[B6], weights->w6);
    transpose(SHARE(UNITS6 + 1), UNITS6, classes, weights->wide_out, parameters[W_OUT], parameters[B_OUT],
              weights->out);
}

void classifier_forward(int n, int classes, const Weights *w, Activation activation, Activations *acts, float *logits) {
    const float *b5 = &w->w5[FEATURES * WIDE5], *b6 = &w->w6[UNITS5 * WIDE6], *b_out = &w->out[UNITS6 * w->wide_out];
    product(n, FEATURES, WIDE5, (Left){VALUES(s4), 1}, (Right){w->w5, WIDE5}, b5, (Out){VALUES(c5)});
    for (int i = 0; i < n; i++) activate_all(acts[i].c5, WIDE5, activation);
    product(n, UNITS5, WIDE6, (Left){VALUES(c5), 1}, (Right){w->w6, WIDE6}, b6, (Out){VALUES(f6)});
    for (int i = 0; i < n; i++) activate_all(acts[i].f6, WIDE6, activation);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < classes; k += LONGEST) { /* the logits are not filled up: the last vector may not fit */
            float some[LONGEST];
            Right right = {&w->out[k], w->wide_out};
            product(1, UNITS6, LONGEST, (Left){acts[i].f6, 0, 1}, right, &b_out[k], (Out){some, 0});
            memcpy(&logits[(size_t)i * classes + k], some, min_int(classes - k, LONGEST) * sizeof(float));
        }
}

/* From the gradient of the logits back to the input of each activation function. */
void classifier_deltas(int n, int classes, Activation activation, const float *const *parameters,
                       const Activations *acts, const float *g_logits, Deltas *deltas) {
    Right w5 = {parameters[W5], FEATURES}, w6 = {parameters[W6], UNITS5}, w_out = {parameters[W_OUT], UNITS6};
    product(n, classes, UNITS6, (Left){g_logits, classes, 1}, w_out, NULL, (Out){DELTAS(f6)});
    for (int i = 0; i < n; i++) times_slope(deltas[i].f6, acts[i].f6, UNITS6, activation);
    product(n, UNITS6, UNITS5, (Left){DELTAS(f6), 1}, w6, NULL, (Out){DELTAS(c5)});
    for (int i = 0; i < n; i++) times_slope(deltas[i].c5, acts[i].c5, UNITS5, activation);
    product(n, UNITS5, FEATURES, (Left){DELTAS(c5), 1}, w5, NULL, (Out){DELTAS(s4)});
    for (int i = 0; i < n; i++) times_slope(deltas[i].s4, acts[i].s4, FEATURES, activation);
}

/* The gradients of one layer's units `first` to `last`: the sum over all images of delta x input. */
static void layer_gradients(int n, int first, int last, int inputs, Left deltas, Right values, float *g_w, float *g_b) {
    Left transposed = {&deltas.at[first], 1, deltas.row};
    product(last - first, n, inputs, transposed, values, NULL, (Out){&g_w[(size_t)first * inputs], inputs});
    memset(&g_b[first], 0, (last - first) * sizeof(float));
    for (int i = 0; i < n; i++)
        for (int unit = first; unit < last; unit++) g_b[unit] += deltas.at[i * deltas.row + unit];
}

/* The share `part` of `parts` of the gradients of all layers: each sum over the images is made by one thread. */
void classifier_gradients(int part, int parts, int n, int classes, const Activations *acts, const float *g_logits,
                          const Deltas *deltas, float *const *gradients) {
    Left g_c5 = {DELTAS(c5), 1}, g_f6 = {DELTAS(f6), 1}, g_out = {g_logits, classes, 1};
    Right s4 = {VALUES(s4)}, c5 = {VALUES(c5)}, f6 = {VALUES(f6)};
    layer_gradients(n, SHARE(UNITS5), FEATURES, g_c5, s4, gradients[W5], gradients[B5]);
    layer_gradients(n, SHARE(UNITS6), UNITS5, g_f6, c5, gradients[W6], gradients[B6]);
    layer_gradients(n, SHARE(classes), UNITS6, g_out, f6, gradients[W_OUT], gradients[B_OUT]);
}
