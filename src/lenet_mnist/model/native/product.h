/* The product of two matrices, row after row: out(r) = start + the sum over d of left(r, d) x right(d). The rows of
 * `right` lie in one piece, and lanes run along them. */

#pragma once

#include "lenet.h"

enum { TILE_ROWS = REGISTERS / 4, TILE_VECTORS = 2 }; /* half of the registers hold sums */

/* Element (r, d) is at[r * row + d * depth]. */
typedef struct {
    const float *at;
    size_t row, depth;
} Left;

/* Row d begins at at[d * row], and of Out row r at at[r * row]. */
typedef struct {
    const float *at;
    size_t row;
} Right;

typedef struct {
    float *at;
    size_t row;
} Out;

/* Some rows of the product and some vectors of them: `height` and `width` are constants where it is called. */
INLINE void tile(int height, int width, int depth, Left left, Right right, const float *start, Out out) {
    lanes sum[TILE_ROWS][TILE_VECTORS];
    UNROLL for (int r = 0; r < height; r++)
        UNROLL for (int v = 0; v < width; v++) sum[r][v] = start ? load(&start[v * LANES]) : splat(0);
    for (int d = 0; d < depth; d++) {
        lanes row[TILE_VECTORS];
        UNROLL for (int v = 0; v < width; v++) row[v] = load(&right.at[d * right.row + v * LANES]);
        UNROLL for (int r = 0; r < height; r++)
            UNROLL for (int v = 0; v < width; v++) sum[r][v] += row[v] * left.at[r * left.row + d * left.depth];
    }
    UNROLL for (int r = 0; r < height; r++)
        UNROLL for (int v = 0; v < width; v++) store(&out.at[r * out.row + v * LANES], sum[r][v]);
}

/* `columns` must fill a vector. The last tile of a row or column is moved back until it fits, over what is there
 * already: those sums are written twice. */
static void product(int rows, int depth, int columns, Left left, Right right, const float *start, Out out) {
    int is_small = rows < TILE_ROWS || columns < TILE_VECTORS * LANES;
    int height = is_small ? 1 : TILE_ROWS, width = is_small ? LANES : TILE_VECTORS * LANES;
    for (int i = 0; i < rows; i += height)
        for (int j = 0; j < columns; j += width) {
            int r = i + height <= rows ? i : rows - height, c = j + width <= columns ? j : columns - width;
            Left from = {&left.at[r * left.row], left.row, left.depth};
            Right along = {&right.at[c], right.row};
            Out to = {&out.at[r * out.row + c], out.row};
            const float *start_c = start ? &start[c] : NULL;
            if (is_small) tile(1, 1, depth, from, along, start_c, to);
            else tile(TILE_ROWS, TILE_VECTORS, depth, from, along, start_c, to);
        }
}
