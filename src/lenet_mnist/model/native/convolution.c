/* The convolutional block of LeNet: C1, activation, S2, C3, activation, S4; from an image of 28 x 28 to 400 features,
 * and back from the gradient of the features to the gradients of the four parameters.
 *
 * One image at a time; all that belongs to it fits the first-level cache. Two ideas make it fast:
 *
 *   1. The maximum over a 2 x 2 window commutes with a monotone activation. The four convolutions of a window live in
 *      four registers; the full convolution is never stored, only the largest value and its argmax.
 *   2. Backwards, only the argmax of a window has a gradient, and under ReLU half of those are zero. Every gradient is
 *      therefore a short sum over the nonzero ones of (a number) x (a patch of 5 rows).
 *
 * Of equal values in a window the first is the argmax, and NaN is larger than all numbers, as in PyTorch. */

#include "lenet.h"

enum {
    PADDED = SIDE + 4, /* side of an image with two pixels of zero around */

    /* Tiles are as large as the registers hold sums: maps of C1; windows of C3 x vectors of its maps. */
    TILE_MAPS = REGISTERS == 32 ? 6 : 2,
    TILE_WINDOWS = REGISTERS == 32 ? 5 : 1,
    TILE_VECTORS = REGISTERS == 32 ? 1 : 2,
};
_Static_assert(MAPS1 % TILE_MAPS == 0 && SIDE3 % TILE_WINDOWS == 0 && MAPS3 % (TILE_VECTORS * LANES) == 0,
               "whole tiles");

/* Return the largest of four, and store its number: of equal values the first, of NaN the last. */
INLINE lanes argmax_of(const lanes four[4], uint8_t *which) {
    lanes best = four[0];
    lanes_int number = {0};
    UNROLL for (int k = 1; k < 4; k++) {
        lanes_int better = (four[k] > best) | (four[k] != four[k]);
        best = choose(better, four[k], best);
        number = (better & k) | (~better & number);
    }
    *(unaligned_byte *)which = __builtin_convertvector(number, lanes_byte);
    return best;
}

/* ------------------------------------------------------------------------------------------------ forward ---- */

/* C1 and S2, before the activation. Lanes are pooled columns. They read every second column of the image, which is
 * therefore first split into its even and its odd columns. Value k of a window is in row k / 2, column k % 2. */
static void forward_c1(const float *image, const float *w1, const float *b1, float *s2, uint8_t *argmax) {
    _Alignas(LINE) float split[PADDED][2][COLUMNS + 2];
    memset(split, 0, sizeof split);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE / 2; x++) {
            split[y + 2][0][x + 1] = image[y * SIDE + 2 * x];
            split[y + 2][1][x + 1] = image[y * SIDE + 2 * x + 1];
        }
    for (int row = 0; row < SIDE1; row++) {
        float pooled[MAPS1][COLUMNS];
        for (int first = 0; first < MAPS1; first += TILE_MAPS)
            for (int from = 0; from < COLUMNS; from += LANES) {
                lanes sum[TILE_MAPS][4];
                UNROLL for (int c = 0; c < TILE_MAPS; c++)
                    UNROLL for (int k = 0; k < 4; k++) sum[c][k] = splat(b1[first + c]);
                for (int m = 0; m < KERNEL; m++)
                    UNROLL for (int n = 0; n < KERNEL; n++) {
                        lanes window[4];
                        UNROLL for (int k = 0; k < 4; k++)
                            window[k] = load(&split[2 * row + m + k / 2][(n + k) % 2][from + (n + k % 2) / 2]);
                        UNROLL for (int c = 0; c < TILE_MAPS; c++)
                            UNROLL for (int k = 0; k < 4; k++)
                                sum[c][k] += window[k] * w1[((first + c) * KERNEL + m) * KERNEL + n];
                    }
                UNROLL for (int c = 0; c < TILE_MAPS; c++)
                    store(&pooled[first + c][from],
                          argmax_of(sum[c], &argmax[((first + c) * SIDE1 + row) * COLUMNS + from]));
            }
        for (int j = 0; j < SIDE1; j++)
            UNROLL for (int c = 0; c < PIXEL; c++) s2[row * ROW + j * PIXEL + c] = c < MAPS1 ? pooled[c][j] : 0;
    }
}

/* C3 and S4, before the activation. Lanes are maps. `w3` is packed as [m][n][k][16]. */
static void forward_c3(const float *s2, const float *w3, const float *b3, float *features, uint8_t *argmax) {
    float pooled[WINDOWS3][MAPS3];
    uint8_t which_of[WINDOWS3][MAPS3];
    for (int tile = 0; tile < WINDOWS3; tile += TILE_WINDOWS)
        for (int from = 0; from < MAPS3; from += TILE_VECTORS * LANES) {
            const float *corner = &s2[2 * (tile / SIDE3) * ROW + 2 * (tile % SIDE3) * PIXEL];
            lanes sum[TILE_WINDOWS][TILE_VECTORS][4];
            UNROLL for (int p = 0; p < TILE_WINDOWS; p++)
                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                    UNROLL for (int k = 0; k < 4; k++) sum[p][v][k] = load(&b3[from + v * LANES]);
            for (int m = 0; m < KERNEL; m++)
                for (int n = 0; n < KERNEL; n++)
                    UNROLL for (int k = 0; k < MAPS1; k++) {
                        lanes weights[TILE_VECTORS];
                        UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                            weights[v] = load(&w3[((m * KERNEL + n) * MAPS1 + k) * MAPS3 + from + v * LANES]);
                        const float *upper = &corner[m * ROW + n * PIXEL + k];
                        UNROLL for (int p = 0; p < TILE_WINDOWS; p++)
                            UNROLL for (int w = 0; w < 4; w++)
                                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                                    sum[p][v][w] += weights[v] * upper[(w / 2) * ROW + (2 * p + w % 2) * PIXEL];
                    }
            UNROLL for (int p = 0; p < TILE_WINDOWS; p++)
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
                    int place = from + v * LANES;
                    store(&pooled[tile + p][place], argmax_of(sum[p][v], &which_of[tile + p][place]));
                }
        }
    for (int c = 0; c < MAPS3; c++)
        for (int p = 0; p < WINDOWS3; p++) {
            features[c * WINDOWS3 + p] = pooled[p][c];
            argmax[c * WINDOWS3 + p] = which_of[p][c];
        }
}

void convolution_forward(const float *image, const Weights *weights, Activation activation, Activations *acts) {
    forward_c1(image, weights->w1, weights->b1, acts->s2, acts->argmax2);
    activate_all(acts->s2, SIDE1 * ROW, activation);
    forward_c3(acts->s2, weights->w3, weights->b3, acts->s4, acts->argmax4);
    activate_all(acts->s4, FEATURES, activation);
}

/* Whether one of the values is infinite or not a number. */
static int is_bad(const float *values, int count) {
    uint32_t found = 0;
    for (int v = 0; v < count; v++) {
        uint32_t bits;
        memcpy(&bits, &values[v], sizeof bits);
        found |= (bits & 0x7f800000) == 0x7f800000;
    }
    return (int)found;
}

/* The weights as the forward pass reads them. One that is not finite makes every feature NaN, by the biases: a
 * saturated sigmoid would hide an infinite weight from the loss. */
void convolution_pack_weights(const float *const *parameters, Weights *weights) {
    int bad = is_bad(parameters[W1], MAPS1 * KERNEL * KERNEL) | is_bad(parameters[B1], MAPS1) |
              is_bad(parameters[W3], MAPS3 * MAPS1 * KERNEL * KERNEL) | is_bad(parameters[B3], MAPS3);
    float nan_or_0 = bad ? NAN : 0;
    memcpy(weights->w1, parameters[W1], sizeof weights->w1);
    for (int c = 0; c < MAPS1; c++) weights->b1[c] = parameters[B1][c] + nan_or_0;
    for (int o = 0; o < MAPS3; o++) weights->b3[o] = parameters[B3][o] + nan_or_0;
    for (int o = 0; o < MAPS3; o++)
        for (int k = 0; k < MAPS1; k++)
            for (int t = 0; t < KERNEL * KERNEL; t++)
                weights->w3[(t * MAPS1 + k) * MAPS3 + o] = parameters[W3][(o * MAPS1 + k) * KERNEL * KERNEL + t];
}

/* ----------------------------------------------------------------------------------------------- backward ---- */

typedef struct {
    int offset;
    float value;
} NonzeroGrad;

/* One pixel of S2, and the 5 pixels of a patch row of the image, of which a vector of 16 would be a waste. */
enum { HALF = LANES < 8 ? LANES : 8 };
typedef float half __attribute__((vector_size(4 * HALF)));
typedef float unaligned_half __attribute__((vector_size(4 * HALF), aligned(4), may_alias));
INLINE half load_half(const float *p) { return *(const unaligned_half *)p; }
INLINE void store_half(float *p, half x) { *(unaligned_half *)p = x; }

/* For one map of C3 and one column of pixels of its patches: the gradient of its weights sums gradient x patch of S2, and
 * the gradient of S2 gets gradient x kernel. */
INLINE void backward_column(const NonzeroGrad *nonzero, int count, const float *s2, const float *kernel, float *g2,
                            float *w3) {
    half sum[KERNEL], weights[KERNEL];
    UNROLL for (int m = 0; m < KERNEL; m++) {
        sum[m] = load_half(&w3[m * PATCH]);
        weights[m] = load_half(&kernel[m * PATCH]);
    }
    for (int h = 0; h < count; h++) {
        const float *pixels = &s2[nonzero[h].offset];
        float *gradients = &g2[nonzero[h].offset];
        UNROLL for (int m = 0; m < KERNEL; m++) {
            sum[m] += load_half(&pixels[m * ROW]) * nonzero[h].value;
            store_half(&gradients[m * ROW], load_half(&gradients[m * ROW]) + weights[m] * nonzero[h].value);
        }
    }
    UNROLL for (int m = 0; m < KERNEL; m++) store_half(&w3[m * PATCH], sum[m]);
}

/* From the gradient of S4 to those of C3's weights and of S2, map after map. `kernels` is w3 packed as [o][m][40]: the
 * rows of a patch. */
static void backward_c3(const float *s2, const float *g4, const uint8_t *argmax, const Kernels kernels, float *g2,
                        Sums *sums) {
    memset(g2, 0, SIDE1 * ROW * sizeof(float));
    for (int o = 0; o < MAPS3; o++) {
        NonzeroGrad nonzero[WINDOWS3];
        int count = 0;
        float bias = 0;
        for (int p = 0; p < WINDOWS3; p++) {
            int which = argmax[o * WINDOWS3 + p];
            float g = g4[o * WINDOWS3 + p];
            int y = 2 * (p / SIDE3) + which / 2, x = 2 * (p % SIDE3) + which % 2;
            nonzero[count] = (NonzeroGrad){y * ROW + x * PIXEL, g}; /* always written, counted if not 0: no branch */
            count += g != 0;
            bias += g;
        }
        sums->b3[o] += bias;
        for (int from = 0; from < PATCH; from += HALF)
            backward_column(nonzero, count, &s2[from], &kernels[o][0][from], &g2[from], &sums->w3[o][0][from]);
    }
}

/* C1's weights: for each map, the sum over all windows of gradient x patch of the image at the argmax, in two sums that
 * do not wait for each other. */
static void backward_w1(const float *padded, const float *g2, const uint8_t *argmax, Sums *sums) {
    for (int c = 0; c < MAPS1; c++)
        for (int from = 0; from < 8; from += HALF) {
            half sum[2][KERNEL];
            UNROLL for (int m = 0; m < KERNEL; m++) sum[0][m] = sum[1][m] = (half){0};
            for (int row = 0; row < SIDE1; row++) {
                const uint8_t *which = &argmax[(c * SIDE1 + row) * COLUMNS];
                const float *g = &g2[row * ROW + c];
                int place[COLUMNS];
                for (int j = 0; j < COLUMNS; j++)
                    place[j] = (2 * row + which[j] / 2) * PADDED + 2 * j + which[j] % 2 + from;
                UNROLL for (int j = 0; j < SIDE1; j++)
                    UNROLL for (int m = 0; m < KERNEL; m++)
                        sum[j % 2][m] += load_half(&padded[place[j] + m * PADDED]) * g[j * PIXEL];
            }
            UNROLL for (int m = 0; m < KERNEL; m++)
                store_half(&sums->w1[c][m][from], load_half(&sums->w1[c][m][from]) + sum[0][m] + sum[1][m]);
        }
    float bias[ROW] = {0};
    for (int row = 0; row < SIDE1; row++)
        for (int v = 0; v < ROW; v++) bias[v] += g2[row * ROW + v];
    for (int j = 0; j < SIDE1; j++)
        for (int c = 0; c < MAPS1; c++) sums->b1[c] += bias[j * PIXEL + c];
}

void convolution_backward(const float *image, const Kernels kernels, Activation activation, const Activations *acts,
                          const Deltas *deltas, Sums *sums) {
    _Alignas(LINE) float g2[SIDE1 * ROW];
    backward_c3(acts->s2, deltas->s4, acts->argmax4, kernels, g2, sums);
    times_slope(g2, acts->s2, SIDE1 * ROW, activation);
    _Alignas(LINE) float padded[PADDED * PADDED + 8];
    memset(padded, 0, sizeof padded);
    for (int y = 0; y < SIDE; y++) memcpy(&padded[(y + 2) * PADDED + 2], &image[y * SIDE], SIDE * sizeof(float));
    backward_w1(padded, g2, acts->argmax2, sums);
}

/* C3's weights as `backward_c3` reads them: the rows of a patch. */
void convolution_pack_kernels(const float *w3, Kernels kernels) {
    memset(kernels, 0, sizeof(Kernels));
    for (int o = 0; o < MAPS3; o++)
        for (int k = 0; k < MAPS1; k++)
            for (int m = 0; m < KERNEL; m++)
                for (int n = 0; n < KERNEL; n++)
                    kernels[o][m][n * PIXEL + k] = w3[((o * MAPS1 + k) * KERNEL + m) * KERNEL + n];
}

/* Add up what the threads have summed, in their order, and put it into the shapes of the parameters. */
void convolution_gradients(int threads, Sums *sums, float *const *gradients) {
    float *total = (float *)sums;
    for (int t = 1; t < threads; t++)
        for (size_t v = 0; v < sizeof(Sums) / sizeof(float); v++) total[v] += ((float *)&sums[t])[v];
    for (int o = 0; o < MAPS3; o++)
        for (int k = 0; k < MAPS1; k++)
            for (int m = 0; m < KERNEL; m++)
                for (int n = 0; n < KERNEL; n++)
                    gradients[W3][((o * MAPS1 + k) * KERNEL + m) * KERNEL + n] = sums->w3[o][m][n * PIXEL + k];
    for (int c = 0; c < MAPS1; c++)
        for (int m = 0; m < KERNEL; m++)
            memcpy(&gradients[W1][(c * KERNEL + m) * KERNEL], sums->w1[c][m], KERNEL * sizeof(float));
    memcpy(gradients[B3], sums->b3, sizeof sums->b3);
    memcpy(gradients[B1], sums->b1, sizeof sums->b1);
}
