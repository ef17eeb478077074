/* The convolutional block of LeNet: C1, activation, S2, C3, activation, S4; from N images of 28 x 28 to N x 400
 * features, and back from the gradient of the features to the gradients of the four parameters.
 *
 * One image at a time per thread; all that belongs to it fits the first-level cache. Three ideas make it fast:
 *
 *   1. The maximum over a 2 x 2 window commutes with a monotone activation. The four convolutions of a window live in
 *      four accumulators; the full convolution is never stored, only the winner's value and which of the four it was.
 *   2. Backwards, only the winner of a window has a gradient, and under ReLU half of those are zero. Every gradient is
 *      therefore a short sum over winners of (a number) x (a patch of 5 rows).
 *   3. Vectors are the compiler's own (vector_size), as long as the longest registers: no intrinsics.
 *
 * Results are the same for the same number of threads: each thread sums over its own block of images, and the blocks
 * are added in their order. The first of equal values in a window wins, and NaN wins over all, as in PyTorch.
 */

#include <stdint.h>
#include <string.h>

enum { SIGMOID, TANH, RELU };

enum {
    IMAGE = 28,                       /* side of an image */
    PADDED = IMAGE + 4,               /* with two pixels of zero around */
    MAPS1 = 6,  SIDE1 = 14,           /* after S2: 6 maps of 14 x 14 */
    MAPS3 = 16, SIDE3 = 5,            /* after S4: 16 maps of 5 x 5 */
    WINDOWS3 = SIDE3 * SIDE3,
    FEATURES = MAPS3 * WINDOWS3,
    TAP = 5,                          /* side of a kernel */
    PIXEL = MAPS1,                    /* S2 is kept pixel by pixel, its 6 maps side by side */
    ROW = 96,                         /* floats from one row of S2 to the next: 14 x 6, and 12 zeros more */
    S2_FLOATS = SIDE1 * ROW,
    S2_WINNERS = MAPS1 * SIDE1 * 16,  /* bytes; 14 of 16 columns are used */
    LANES = 16,
    PATCH = 2 * LANES,                /* a patch row of S2: 5 pixels x 6 maps = 30 floats, in two vectors */
    WIDE = 3 * LANES,                 /* the same with one pixel more on either side, in three */
};

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lanes_int __attribute__((vector_size(4 * LANES)));
typedef uint32_t lanes_word __attribute__((vector_size(4 * LANES)));
typedef uint8_t lanes_byte __attribute__((vector_size(LANES)));
typedef float eight __attribute__((vector_size(32)));
typedef float unaligned_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float unaligned_eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint8_t unaligned_byte __attribute__((vector_size(LANES), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

INLINE lanes load(const float *p) { return *(const unaligned_lanes *)p; }
INLINE void store(float *p, lanes x) { *(unaligned_lanes *)p = x; }
INLINE lanes all(float x) { return x - (lanes){0}; }
INLINE lanes choose(lanes_int is_first, lanes first, lanes second) {
    return (lanes)((is_first & (lanes_int)first) | (~is_first & (lanes_int)second));
}

/* Activations, and their derivatives as functions of the value that was given out. */

INLINE lanes exponential(lanes x) {
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x)); /* NaN is neither, and stays */
    lanes shifted = x * 1.44269504f + 12582912.0f;             /* the nearest integer, in the lowest bits */
    lanes whole = shifted - 12582912.0f;
    lanes rest = x - whole * 0.693145752f - whole * 1.42860677e-6f;
    lanes p = all(1.0f / 5040);
    p = p * rest + 1.0f / 720;
    p = p * rest + 1.0f / 120;
    p = p * rest + 1.0f / 24;
    p = p * rest + 1.0f / 6;
    p = p * rest + 0.5f;
    p = p * rest + 1.0f;
    p = p * rest + 1.0f;
    lanes_word power = ((lanes_word)shifted - (lanes_word)all(12582912.0f) + 127) << 23;
    return p * (lanes)power;
}

/* Near zero 1 - 2 / (1 + e^2x) would lose its digits; the continued fraction of tanh, cut after x^7, does not. */
INLINE lanes tanh_near_zero(lanes x) {
    lanes s = x * x;
    return x * (135135.0f + s * (17325.0f + s * (378.0f + s))) / (135135.0f + s * (62370.0f + s * (3150.0f + s * 28.0f)));
}

INLINE lanes activate(lanes x, int activation) {
    switch (activation) {
    case SIGMOID: return 1.0f / (1.0f + exponential(-x));
    case TANH:    return choose(x * x < 0.4f, tanh_near_zero(x), 1.0f - 2.0f / (1.0f + exponential(2.0f * x)));
    default:      return choose(x <= 0.0f, all(0.0f), x); /* NaN stays NaN */
    }
}

INLINE lanes slope(lanes y, int activation) {
    switch (activation) {
    case SIGMOID: return y * (1.0f - y);
    case TANH:    return 1.0f - y * y;
    default:      return choose(y > 0.0f, all(1.0f), all(0.0f));
    }
}

/* Keep the largest of four, and which it was: the first of equals; the last NaN before all. */
INLINE lanes winner_of(const lanes four[4], lanes_int *which) {
    lanes best = four[0];
    *which = (lanes_int){0};
    UNROLL for (int k = 1; k < 4; k++) {
        lanes_int better = (four[k] > best) | (four[k] != four[k]);
        best = choose(better, four[k], best);
        *which = (better & k) | (~better & *which);
    }
    return best;
}

/* ------------------------------------------------------------------------------------------------ forward ---- */

/* C1 and S2. Lanes are the 14 pooled columns. Column 2j + d of the image is column j of the even (d = 0) or odd columns,
 * so that the image is first dealt out into even and odd columns. */
static void forward_c1(const float *image, const float *w1, const float *b1, float *s2, uint8_t *winners, int activation) {
    float dealt[PADDED][2][PADDED / 2 + LANES];
    memset(dealt, 0, sizeof dealt);
    for (int y = 0; y < IMAGE; y++)
        for (int x = 0; x < IMAGE / 2; x++) {
            dealt[y + 2][0][x + 1] = image[y * IMAGE + 2 * x];
            dealt[y + 2][1][x + 1] = image[y * IMAGE + 2 * x + 1];
        }
    for (int row = 0; row < SIDE1; row++) {
        lanes sum[MAPS1][4];
        UNROLL for (int c = 0; c < MAPS1; c++)
            UNROLL for (int k = 0; k < 4; k++) sum[c][k] = all(b1[c]);
        UNROLL for (int y = 0; y < 6; y++)
            UNROLL for (int x = 0; x < 6; x++) {
                lanes pixels = load(&dealt[2 * row + y][x % 2][x / 2]);
                UNROLL for (int c = 0; c < MAPS1; c++)
                    UNROLL for (int k = 0; k < 4; k++) {
                        int m = y - k / 2, n = x - k % 2;
                        if (m >= 0 && m < TAP && n >= 0 && n < TAP) sum[c][k] += pixels * w1[(c * TAP + m) * TAP + n];
                    }
            }
        UNROLL for (int c = 0; c < MAPS1; c++) {
            lanes_int which;
            lanes y = activate(winner_of(sum[c], &which), activation);
            *(unaligned_byte *)&winners[(c * SIDE1 + row) * 16] = __builtin_convertvector(which, lanes_byte);
            UNROLL for (int j = 0; j < SIDE1; j++) s2[row * ROW + j * PIXEL + c] = y[j];
        }
        memset(&s2[row * ROW + SIDE1 * PIXEL], 0, (ROW - SIDE1 * PIXEL) * sizeof(float));
    }
}

/* C3 and S4. Lanes are the 16 maps; the five windows of a row are summed together. `w3` is dealt out as [m][n][k][16]. */
static void forward_c3(const float *s2, const float *w3, const float *b3, float *features, uint8_t *winners, int activation) {
    float pooled[WINDOWS3][LANES];
    uint8_t which_of[WINDOWS3][LANES];
    for (int row = 0; row < SIDE3; row++) {
        lanes sum[SIDE3][4];
        UNROLL for (int p = 0; p < SIDE3; p++)
            UNROLL for (int k = 0; k < 4; k++) sum[p][k] = load(b3);
        for (int m = 0; m < TAP; m++)
            for (int t = 0; t < TAP * PIXEL; t++) { /* pixel n and map k: t = 6 n + k */
                lanes weights = load(&w3[(m * TAP * PIXEL + t) * LANES]);
                const float *upper = &s2[(2 * row + m) * ROW + t];
                UNROLL for (int p = 0; p < SIDE3; p++)
                    UNROLL for (int k = 0; k < 4; k++)
                        sum[p][k] += weights * upper[(k / 2) * ROW + (2 * p + k % 2) * PIXEL];
            }
        UNROLL for (int p = 0; p < SIDE3; p++) {
            lanes_int which;
            store(pooled[row * SIDE3 + p], activate(winner_of(sum[p], &which), activation));
            *(unaligned_byte *)which_of[row * SIDE3 + p] = __builtin_convertvector(which, lanes_byte);
        }
    }
    for (int c = 0; c < MAPS3; c++)
        for (int p = 0; p < WINDOWS3; p++) {
            features[c * WINDOWS3 + p] = pooled[p][c];
            winners[c * WINDOWS3 + p] = which_of[p][c];
        }
}

/* Zero if all parameters are finite, else NaN. Added to the biases, it makes every feature NaN: a saturated sigmoid would
 * hide an infinite weight from the loss. */
static float poison(const float *w1, const float *b1, const float *w3, const float *b3) {
    float sum = 0;
    for (int v = 0; v < MAPS1 * TAP * TAP; v++) sum += 0 * w1[v];
    for (int v = 0; v < MAPS3 * MAPS1 * TAP * TAP; v++) sum += 0 * w3[v];
    for (int v = 0; v < MAPS1; v++) sum += 0 * b1[v];
    for (int v = 0; v < MAPS3; v++) sum += 0 * b3[v];
    return sum;
}

void lenet_forward(int n, int activation, const float *images, const float *w1, const float *b1, const float *w3,
                   const float *b3, float *features, float *s2, uint8_t *winners2, uint8_t *winners4, int threads) {
    float dealt[TAP * TAP * PIXEL * LANES], biases1[MAPS1], biases3[MAPS3], nan_or_0 = poison(w1, b1, w3, b3);
    for (int c = 0; c < MAPS1; c++) biases1[c] = b1[c] + nan_or_0;
    for (int o = 0; o < MAPS3; o++) biases3[o] = b3[o] + nan_or_0;
    for (int o = 0; o < MAPS3; o++)
        for (int k = 0; k < MAPS1; k++)
            for (int t = 0; t < TAP * TAP; t++) dealt[(t * PIXEL + k) * LANES + o] = w3[(o * MAPS1 + k) * TAP * TAP + t];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t i = 0; i < (size_t)n; i++) {
        forward_c1(&images[i * IMAGE * IMAGE], w1, biases1, &s2[i * S2_FLOATS], &winners2[i * S2_WINNERS], activation);
        forward_c3(&s2[i * S2_FLOATS], dealt, biases3, &features[i * FEATURES], &winners4[i * FEATURES], activation);
    }
}

/* ----------------------------------------------------------------------------------------------- backward ---- */

/* What one thread sums up. */
typedef struct {
    float w3[MAPS3][TAP][PATCH]; /* [o][m][6 n + k] */
    float b3[MAPS3];
    float w1[MAPS1][TAP][8]; /* [c][m][n], three more that mean nothing */
    float b1[MAPS1];
} Gradients;

typedef struct {
    int offset;
    float value;
} Hit;

/* C3's weights: for each map, the sum over its winners of gradient x patch of S2. */
static void backward_w3(const float *s2, const float *g4, const uint8_t *winners, Gradients *sums) {
    for (int o = 0; o < MAPS3; o++) {
        Hit hits[WINDOWS3];
        int count = 0;
        float bias = 0;
        for (int p = 0; p < WINDOWS3; p++) {
            int which = winners[o * WINDOWS3 + p];
            float g = g4[o * WINDOWS3 + p];
            int y = 2 * (p / SIDE3) + which / 2, x = 2 * (p % SIDE3) + which % 2;
            hits[count] = (Hit){y * ROW + x * PIXEL, g};
            count += g != 0;
            bias += g;
        }
        lanes sum[TAP][2];
        UNROLL for (int m = 0; m < TAP; m++) sum[m][0] = sum[m][1] = all(0);
        for (int h = 0; h < count; h++) {
            const float *patch = &s2[hits[h].offset];
            UNROLL for (int m = 0; m < TAP; m++) {
                sum[m][0] += load(&patch[m * ROW]) * hits[h].value;
                sum[m][1] += load(&patch[m * ROW + LANES]) * hits[h].value;
            }
        }
        UNROLL for (int m = 0; m < TAP; m++) {
            store(sums->w3[o][m], load(sums->w3[o][m]) + sum[m][0]);
            store(&sums->w3[o][m][LANES], load(&sums->w3[o][m][LANES]) + sum[m][1]);
        }
        sums->b3[o] += bias;
    }
}

/* The gradient of S2: each winner adds gradient x kernel. The winners of one window that lie in the same of its two rows
 * are summed in registers first; `wide` holds the kernels [x][o][m][48], moved right by x pixels. */
static void backward_s2(const float *g4, const uint8_t *winners, const float *wide, float *g2) {
    memset(g2, 0, S2_FLOATS * sizeof(float));
    for (int p = 0; p < WINDOWS3; p++) {
        Hit hits[2][MAPS3];
        int count[2] = {0, 0};
        for (int o = 0; o < MAPS3; o++) {
            int which = winners[o * WINDOWS3 + p];
            float g = g4[o * WINDOWS3 + p];
            int y = which / 2, x = which % 2;
            hits[y][count[y]] = (Hit){(x * MAPS3 + o) * TAP * WIDE, g};
            count[y] += g != 0;
        }
        for (int y = 0; y < 2; y++) {
            lanes sum[TAP][3];
            UNROLL for (int m = 0; m < TAP; m++) sum[m][0] = sum[m][1] = sum[m][2] = all(0);
            for (int h = 0; h < count[y]; h++) {
                const float *kernel = &wide[hits[y][h].offset];
                UNROLL for (int m = 0; m < TAP; m++)
                    UNROLL for (int v = 0; v < 3; v++)
                        sum[m][v] += load(&kernel[m * WIDE + v * LANES]) * hits[y][h].value;
            }
            float *corner = &g2[(2 * (p / SIDE3) + y) * ROW + 2 * (p % SIDE3) * PIXEL];
            UNROLL for (int m = 0; m < TAP; m++)
                UNROLL for (int v = 0; v < 3; v++) {
                    float *place = &corner[m * ROW + v * LANES];
                    store(place, load(place) + sum[m][v]);
                }
        }
    }
}

/* C1's weights: for each map, the sum over its winners of gradient x patch of the image, in two sums that do not wait
 * for each other. */
static void backward_w1(const float *padded, const float *g2, const uint8_t *winners, Gradients *sums) {
    for (int c = 0; c < MAPS1; c++) {
        Hit hits[SIDE1 * SIDE1 + 1];
        int count = 0;
        float bias = 0;
        for (int row = 0; row < SIDE1; row++)
            for (int j = 0; j < SIDE1; j++) {
                int which = winners[(c * SIDE1 + row) * 16 + j];
                float g = g2[row * ROW + j * PIXEL + c];
                hits[count] = (Hit){(2 * row + which / 2) * PADDED + 2 * j + which % 2, g};
                count += g != 0;
                bias += g;
            }
        hits[count] = (Hit){0, 0}; /* an even number of them */
        eight sum[2][TAP];
        UNROLL for (int m = 0; m < TAP; m++) sum[0][m] = sum[1][m] = (eight){0};
        for (int h = 0; h < count; h += 2)
            UNROLL for (int s = 0; s < 2; s++)
                UNROLL for (int m = 0; m < TAP; m++)
                    sum[s][m] += *(const unaligned_eight *)&padded[hits[h + s].offset + m * PADDED] * hits[h + s].value;
        UNROLL for (int m = 0; m < TAP; m++)
            *(unaligned_eight *)sums->w1[c][m] += sum[0][m] + sum[1][m];
        sums->b1[c] += bias;
    }
}

static void backward_image(const float *image, const float *wide, const float *features, const float *s2,
                           const uint8_t *winners2, const uint8_t *winners4, const float *g_features, Gradients *sums,
                           int activation) {
    float g4[FEATURES], g2[S2_FLOATS], padded[PADDED * PADDED + 8];
    for (int v = 0; v < FEATURES; v += LANES)
        store(&g4[v], load(&g_features[v]) * slope(load(&features[v]), activation));
    backward_w3(s2, g4, winners4, sums);
    backward_s2(g4, winners4, wide, g2);
    for (int v = 0; v < S2_FLOATS; v += LANES) store(&g2[v], load(&g2[v]) * slope(load(&s2[v]), activation));
    memset(padded, 0, sizeof padded);
    for (int y = 0; y < IMAGE; y++) memcpy(&padded[(y + 2) * PADDED + 2], &image[y * IMAGE], IMAGE * sizeof(float));
    backward_w1(padded, g2, winners2, sums);
}

/* What the caller must allocate, an image: floats of S2, bytes of its winners; and a thread: bytes of sums. */
void lenet_sizes(int sizes[3]) {
    sizes[0] = S2_FLOATS;
    sizes[1] = S2_WINNERS;
    sizes[2] = sizeof(Gradients);
}

void lenet_backward(int n, int activation, const float *images, const float *w3, const float *features,
                    const float *s2, const uint8_t *winners2, const uint8_t *winners4, const float *g_features,
                    float *g_w1, float *g_b1, float *g_w3, float *g_b3, void *scratch, int threads) {
    float wide[2][MAPS3][TAP][WIDE];
    memset(wide, 0, sizeof wide);
    for (int x = 0; x < 2; x++)
        for (int o = 0; o < MAPS3; o++)
            for (int k = 0; k < MAPS1; k++)
                for (int m = 0; m < TAP; m++)
                    for (int j = 0; j < TAP; j++)
                        wide[x][o][m][(j + x) * PIXEL + k] = w3[((o * MAPS1 + k) * TAP + m) * TAP + j];
    Gradients *sums = scratch;
    memset(sums, 0, threads * sizeof(Gradients));
    const float *kernels = &wide[0][0][0][0];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++)
        for (size_t i = (size_t)t * n / threads; i < (size_t)(t + 1) * n / threads; i++)
            backward_image(&images[i * IMAGE * IMAGE], kernels, &features[i * FEATURES], &s2[i * S2_FLOATS],
                           &winners2[i * S2_WINNERS], &winners4[i * FEATURES], &g_features[i * FEATURES], &sums[t],
                           activation);
    for (int t = 1; t < threads; t++)
        for (size_t v = 0; v < sizeof(Gradients) / sizeof(float); v++) ((float *)sums)[v] += ((float *)(sums + t))[v];
    for (int o = 0; o < MAPS3; o++) {
        for (int k = 0; k < MAPS1; k++)
            for (int m = 0; m < TAP; m++)
                for (int j = 0; j < TAP; j++)
                    g_w3[((o * MAPS1 + k) * TAP + m) * TAP + j] = sums->w3[o][m][j * PIXEL + k];
        g_b3[o] = sums->b3[o];
    }
    for (int c = 0; c < MAPS1; c++) {
        for (int m = 0; m < TAP; m++) memcpy(&g_w1[(c * TAP + m) * TAP], sums->w1[c][m], TAP * sizeof(float));
        g_b1[c] = sums->b1[c];
    }
}
