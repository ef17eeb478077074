/* What the two blocks of the network share: its sizes, the activations of an image, vectors and their functions.
 *
 * Vectors are the compiler's own (vector_size), each as long as one register of the processor: no intrinsics. */

#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    SIDE = 28,            /* side of an image */
    MAPS1 = 6,            /* maps of C1 and S2 */
    SIDE1 = 14,           /* side of a map of S2 */
    MAPS3 = 16,           /* maps of C3 and S4 */
    SIDE3 = 5,            /* side of a map of S4 */
    WINDOWS3 = SIDE3 * SIDE3,
    FEATURES = MAPS3 * WINDOWS3,
    KERNEL = 5,           /* side of a kernel */
    UNITS5 = 120,         /* of C5 */
    UNITS6 = 84,          /* of F6 */

    /* sizes in memory, padded to whole vectors; the padding is computed like the rest, and means nothing */
    LONGEST = 16,         /* floats of the longest vector */
    LINE = 64,            /* bytes of a line of the cache: a vector that lies across two takes longer */
    PIXEL = 8,            /* S2 is stored pixel by pixel, its 6 maps side by side, and 2 more */
    ROW = SIDE1 * PIXEL,  /* from one row of S2 to the next */
    COLUMNS = 16,         /* of S2, where it is stored map by map: 14, and 2 more */
    PATCH = KERNEL * PIXEL, /* a row of 5 pixels of S2 */
    WIDE5 = 128,          /* UNITS5 and 8 more */
    WIDE6 = 96,           /* UNITS6 and 12 more */
};
_Static_assert(SIDE1 * ROW % LONGEST == 0 && FEATURES % LONGEST == 0 && WIDE5 % LONGEST == 0 && WIDE6 % LONGEST == 0,
               "whole vectors");

/* What the forward pass stores of an image for the backward pass: the value of each activation, and which of the four
 * values of a 2 x 2 window was the largest: 2 x (its row) + (its column). */
typedef struct {
    _Alignas(LINE) float s2[SIDE1 * ROW];
    float s4[FEATURES];
    float c5[WIDE5];
    float f6[WIDE6];
    uint8_t argmax2[MAPS1 * SIDE1 * COLUMNS];
    uint8_t argmax4[FEATURES];
} Activations;

/* The gradients of the loss with respect to the input of each activation function. */
typedef struct {
    _Alignas(LINE) float s4[FEATURES];
    float c5[WIDE5];
    float f6[WIDE6];
} Deltas;

/* The gradients of the convolutions, summed over the images of one thread: a patch row for each row of a kernel. */
typedef struct {
    _Alignas(LINE) float w3[MAPS3][KERNEL][PATCH]; /* [o][m][8 n + k] */
    float b3[MAPS3];
    float w1[MAPS1][KERNEL][8]; /* [c][m][n], and 3 more */
    float b1[MAPS1];
} Sums;

typedef float Kernels[MAPS3][KERNEL][PATCH]; /* C3's weights: [o][m][8 n + k] */

/* The parameters as the forward pass reads them: lanes run along maps and units. */
typedef struct {
    float w1[MAPS1 * KERNEL * KERNEL]; /* [c][m][n] */
    float b1[MAPS1];
    float w3[KERNEL * KERNEL * MAPS1 * MAPS3]; /* [m][n][k][o] */
    float b3[MAPS3];
    float w5[(FEATURES + 1) * WIDE5]; /* a row of all units for each input, and one of biases */
    float w6[(UNITS5 + 1) * WIDE6];
    int wide_out; /* classes, padded to whole vectors */
    float out[];  /* the same for the output layer: (84 + 1) rows */
} Weights;

typedef enum { SIGMOID, TANH, RELU } Activation;

/* The parameters in the order of the state dict, and their gradients. */
enum { W1, B1, W3, B3, W5, B5, W6, B6, W_OUT, B_OUT };

/* A vector is one register of the processor: LANES floats. The number of registers decides how large the tiles are. */
#if defined __AVX512F__
enum { LANES = 16, REGISTERS = 32 };
#elif defined __AVX__
enum { LANES = 8, REGISTERS = 16 };
#elif defined __aarch64__
enum { LANES = 4, REGISTERS = 32 };
#else
enum { LANES = 4, REGISTERS = 16 };
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lanes_int __attribute__((vector_size(4 * LANES)));
typedef uint32_t lanes_word __attribute__((vector_size(4 * LANES)));
typedef uint8_t lanes_byte __attribute__((vector_size(LANES)));
typedef float unaligned_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint8_t unaligned_byte __attribute__((vector_size(LANES), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* For a loop with a small, constant number of rounds: only if it is unrolled do its vectors stay in registers. Clang
 * accepts GCC's pragma too, but then leaves some nested loops as they are. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* From here to `restore`, numbers below 1.2e-38 are 0 on this thread. Many processors are far slower with them, and a
 * saturated network's gradients are full of them (docs/lab-notes.md). */
INLINE uint64_t without_subnormals(void) {
    uint64_t before = 0;
#if defined __x86_64__
    uint32_t mode;
    __asm__ volatile("stmxcsr %0" : "=m"(mode));
    before = mode;
    mode |= 0x8040; /* for results and for operands */
    __asm__ volatile("ldmxcsr %0" : : "m"(mode) : "memory");
#elif defined __aarch64__
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | 1u << 24) : "memory");
#endif
    return before;
}

INLINE void restore(uint64_t mode) {
#if defined __x86_64__
    uint32_t before = (uint32_t)mode;
    __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory");
#elif defined __aarch64__
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
#endif
    (void)mode;
}

INLINE lanes load(const float *p) { return *(const unaligned_lanes *)p; }
INLINE void store(float *p, lanes x) { *(unaligned_lanes *)p = x; }
INLINE void add(float *p, lanes x) { store(p, load(p) + x); }
INLINE lanes splat(float x) { return x - (lanes){0}; } /* minus, not plus: -0 stays -0 */
INLINE lanes choose(lanes_int is_first, lanes first, lanes second) {
    return (lanes)((is_first & (lanes_int)first) | (~is_first & (lanes_int)second));
}

/* Activation functions, and their derivatives as functions of their value. */

/* e^x = 2^whole e^rest: `whole` is x / ln 2, rounded, and goes into the exponent; |rest| <= ln 2 / 2, for which the
 * first eight terms of the series are enough. */
INLINE lanes exponential(lanes x) {
    const float shift = 12582912.0f; /* 1.5 x 2^23: a float of this size has no bits for fractions */
    x = choose(x < -87.0f, splat(-87.0f), choose(x > 88.0f, splat(88.0f), x)); /* 2^whole is a float; NaN stays NaN */
    lanes shifted = x * 1.44269504f + shift;                               /* `whole` is in its lowest bits */
    lanes whole = shifted - shift;
    lanes rest = x - whole * 0.693145752f - whole * 1.42860677e-6f; /* ln 2 in two parts: the first product is exact */
    lanes p = splat(1.0f / 5040);
    p = p * rest + 1.0f / 720;
    p = p * rest + 1.0f / 120;
    p = p * rest + 1.0f / 24;
    p = p * rest + 1.0f / 6;
    p = p * rest + 0.5f;
    p = p * rest + 1.0f;
    p = p * rest + 1.0f;
    lanes_word power = ((lanes_word)shifted - (lanes_word)splat(shift) + 127) << 23;
    return p * (lanes)power;
}

/* Near zero 1 - 2 / (1 + e^2x) would lose its digits; the continued fraction of tanh, cut after x^7, does not. */
INLINE lanes tanh_near_zero(lanes x) {
    lanes s = x * x;
    return x * (135135.0f + s * (17325.0f + s * (378.0f + s))) /
           (135135.0f + s * (62370.0f + s * (3150.0f + s * 28.0f)));
}

INLINE lanes activate(lanes x, Activation activation) {
    switch (activation) {
    case SIGMOID: return 1.0f / (1.0f + exponential(-x));
    case TANH:    return choose(x * x < 0.4f, tanh_near_zero(x), 1.0f - 2.0f / (1.0f + exponential(2.0f * x)));
    default:      return choose(x <= 0.0f, splat(0.0f), x); /* NaN stays NaN */
    }
}

/* The same for `count` values, padded to whole vectors. */
INLINE void activate_each(float *values, int count, Activation activation) {
    for (int v = 0; v < count; v += LANES) store(&values[v], activate(load(&values[v]), activation));
}

static inline void activate_all(float *values, int count, Activation activation) {
    switch (activation) { /* here, not in the loop */
    case SIGMOID: activate_each(values, count, SIGMOID); break;
    case TANH:    activate_each(values, count, TANH); break;
    case RELU:    activate_each(values, count, RELU); break;
    }
}

INLINE lanes slope(lanes y, Activation activation) {
    switch (activation) {
    case SIGMOID: return y * (1.0f - y);
    case TANH:    return 1.0f - y * y;
    default:      return choose(y > 0.0f, splat(1.0f), splat(0.0f));
    }
}

/* Multiply `count` deltas, padded to whole vectors. */
INLINE void times_slopes(float *deltas, const float *values, int count, Activation activation) {
    for (int v = 0; v < count; v += LANES) store(&deltas[v], load(&deltas[v]) * slope(load(&values[v]), activation));
}

static inline void times_slope(float *deltas, const float *values, int count, Activation activation) {
    switch (activation) {
    case SIGMOID: times_slopes(deltas, values, count, SIGMOID); break;
    case TANH:    times_slopes(deltas, values, count, TANH); break;
    case RELU:    times_slopes(deltas, values, count, RELU); break;
    }
}

/* Of `count` things, each part takes those from its own share(...) up to, but not including, the next part's. */
INLINE int share(int count, int part, int parts) { return (int)((int64_t)count * part / parts); }

INLINE int min_int(int a, int b) { return a < b ? a : b; }

/* convolution.c */
void convolution_pack_weights(const float *const *parameters, Weights *weights);
void convolution_forward(const float *image, const Weights *weights, Activation activation, Activations *acts);
void convolution_pack_kernels(const float *w3, Kernels kernels);
void convolution_backward(const float *image, const Kernels kernels, Activation activation, const Activations *acts,
                          const Deltas *deltas, Sums *sums);
void convolution_gradients(int threads, Sums *sums, float *const *gradients);

/* classifier.c */
void classifier_pack_weights(int part, int parts, const float *const *parameters, int classes, Weights *weights);
void classifier_forward(int n, int classes, const Weights *weights, Activation activation, Activations *acts,
                        float *logits);
void classifier_deltas(int n, int classes, Activation activation, const float *const *parameters,
                       const Activations *acts, const float *g_logits, Deltas *deltas);
void classifier_gradients(int part, int parts, int n, int classes, const Activations *acts, const float *g_logits,
                          const Deltas *deltas, float *const *gradients);

/* loss.c */
void cross_entropy(int n, int classes, const float *logits, const int64_t *labels, float smoothing, float scale,
                   float *losses, int *correct, float *g_logits);
