/* The resampling of data/augment.py, bit for bit: augmented images, each pixel taken from a different place.
 *
 * Places are in 1/256 pixel. All numbers but the very last are whole multiples of a power of two, and so small that
 * float32 holds them exactly: neither the order of a sum nor a fused multiply-add can change a bit. */

#include "lenet.h"
#include "threads.h"

enum {
    PIXELS = SIDE * SIDE,
    MARGIN = 2, /* of black around the image; everything further out is as black as its edge */
    PADDED = SIDE + 2 * MARGIN,
    PLACES = 256,                         /* in a pixel, along each side */
    MOST_KNOTS = 18,                      /* along each side of the grid of noise */
    VECTORS = (SIDE + LANES - 1) / LANES, /* in a row */
};
_Static_assert(PIXELS % LONGEST == 0 && SIDE >= LONGEST, "whole vectors");

/* Where vector `v` of a row begins: the last one is moved back until it fits, over what is there already. */
#define BEGIN(v) min_int((v) * LANES, SIDE - LANES)

/* What the distortions of all images have in common. */
typedef struct {
    int knots;
    const float *across; /* [knots][SIDE]: the weight of a knot in each column */
    const float *down;   /* [SIDE][knots]: and in each row, times the size of the displacement */
    float black, factor; /* by which pixels of 0 to 255 are normalised: (pixel - black) x factor */
} Common;

/* Where each pixel is taken from: a place between four pixels, given by the upper left one. */
typedef struct {
    uint32_t upper_left[PIXELS];        /* its number in the padded image */
    float right[PIXELS], below[PIXELS]; /* the distance of the place from it */
} Sources;

INLINE lanes to_floats(lanes_word below_2_31) { return __builtin_convertvector((lanes_int)below_2_31, lanes); }

/* Both displacements at the knots, smoothed from left to right. A byte of noise holds 4 bits of each. */
static void smooth(const uint8_t *noise, const Common *common, float smoothed[2][MOST_KNOTS][SIDE]) {
    int knots = common->knots;
    float values[2][MOST_KNOTS * MOST_KNOTS]; /* -15, -13 .. 15 */
    for (int k = 0; k < knots * knots; k++) {
        values[0][k] = (float)(2 * (noise[k] & 15) - 15);
        values[1][k] = (float)(2 * (noise[k] >> 4) - 15);
    }
    for (int axis = 0; axis < 2; axis++)
        for (int row = 0; row < knots; row++) {
            lanes sum[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) sum[v] = splat(0);
            for (int k = 0; k < knots; k++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    sum[v] += load(&common->across[k * SIDE + BEGIN(v)]) * values[axis][row * knots + k];
            UNROLL for (int v = 0; v < VECTORS; v++) store(&smoothed[axis][row][BEGIN(v)], sum[v]);
        }
}

/* A place in the padded image, counted from its upper left corner. */
INLINE lanes_word in_padded(lanes place) {
    const float first = -PLACES, last = SIDE * PLACES;
    place = choose(place < first, splat(first), choose(place > last, splat(last), place));
    place += (float)(MARGIN * PLACES); /* positive: what follows rounds down */
    return (lanes_word)__builtin_convertvector(place, lanes_int);
}

/* `map` is [2][3]: to x and to y, what a step to the right adds, what a step down adds, and what the middle is. */
static void find_sources(const float *map, const uint8_t *noise, const Common *common, Sources *sources) {
    float smoothed[2][MOST_KNOTS][SIDE], steps[SIDE];
    smooth(noise, common, smoothed);
    for (int i = 0; i < SIDE; i++) steps[i] = (float)i - (SIDE - 1) / 2.0f;
    for (int y = 0; y < SIDE; y++) {
        lanes place[2][VECTORS];
        UNROLL for (int axis = 0; axis < 2; axis++) {
            const float *m = &map[3 * axis];
            UNROLL for (int v = 0; v < VECTORS; v++)
                place[axis][v] = load(&steps[BEGIN(v)]) * m[0] + (steps[y] * m[1] + m[2]);
        }
        for (int k = 0; k < common->knots; k++)
            UNROLL for (int axis = 0; axis < 2; axis++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    place[axis][v] += load(&smoothed[axis][k][BEGIN(v)]) * common->down[y * common->knots + k];
        UNROLL for (int v = 0; v < VECTORS; v++) {
            lanes_word column = in_padded(place[0][v]), row = in_padded(place[1][v]);
            lanes_word number = row / PLACES * PADDED + column / PLACES;
            int i = y * SIDE + BEGIN(v);
            memcpy(&sources->upper_left[i], &number, sizeof number);
            store(&sources->right[i], to_floats(column % PLACES));
            store(&sources->below[i], to_floats(row % PLACES));
        }
    }
}

/* Each pixel of the padded image, and its neighbours to the right, below, and right below: a byte each. */
static void collect_squares(const uint8_t *image, uint32_t squares[PADDED * PADDED]) {
    uint8_t padded[(PADDED + 1) * PADDED + 1] = {0};
    for (int y = 0; y < SIDE; y++) memcpy(&padded[(y + MARGIN) * PADDED + MARGIN], &image[y * SIDE], SIDE);
    for (int i = 0; i < PADDED * PADDED; i++)
        squares[i] = padded[i] | (uint32_t)padded[i + 1] << 8 | (uint32_t)padded[i + PADDED] << 16 |
                     (uint32_t)padded[i + PADDED + 1] << 24;
}

INLINE lanes pixel_of(lanes_word squares, int which) { return to_floats(squares >> 8 * which & 255); }

static void distort(const uint8_t *image, const float *map, const uint8_t *noise, const Common *common, float *out) {
    Sources sources;
    uint32_t squares[PADDED * PADDED], chosen[PIXELS];
    find_sources(map, noise, common, &sources);
    collect_squares(image, squares);
    for (int i = 0; i < PIXELS; i++) chosen[i] = squares[sources.upper_left[i]];
    for (int i = 0; i < PIXELS; i += LANES) {
        lanes_word four;
        memcpy(&four, &chosen[i], sizeof four);
        lanes right = load(&sources.right[i]), below = load(&sources.below[i]);
        lanes upper = pixel_of(four, 0) * PLACES + (pixel_of(four, 1) - pixel_of(four, 0)) * right;
        lanes lower = pixel_of(four, 2) * PLACES + (pixel_of(four, 3) - pixel_of(four, 2)) * right;
        lanes pixel = (upper * PLACES + (lower - upper) * below) * (1.0f / (PLACES * PLACES));
        store(&out[i], (pixel - common->black) * common->factor);
    }
}

typedef struct {
    Common common;
    int n;
    const int64_t *chosen;
    const uint8_t *images;
    const float *maps;
    const uint8_t *noise;
    float *out;
} Batch;

static void distort_some(void *batch, int part, int parts) {
    Batch *b = batch;
    int knots = b->common.knots;
    for (int i = share(b->n, part, parts); i < share(b->n, part + 1, parts); i++) {
        size_t which = (size_t)b->chosen[i];
        distort(&b->images[which * PIXELS], &b->maps[which * 6], &b->noise[which * knots * knots], &b->common,
                &b->out[(size_t)i * PIXELS]);
    }
}

/* Distort `n` chosen images of `count`, each by its own map and noise. Returns 0, and does nothing, if one of them does
 * not exist; otherwise 1. */
int lenet_augment(int n, const int64_t *chosen, int count, const uint8_t *images, const float *maps,
                  const uint8_t *noise, int knots, const float *across, const float *down, float black, float factor,
                  float *out, int threads) {
    for (int i = 0; i < n; i++)
        if (chosen[i] < 0 || chosen[i] >= count) return 0;
    run_parts(threads, distort_some,
              &(Batch){{knots, across, down, black, factor}, n, chosen, images, maps, noise, out});
    return 1;
}
