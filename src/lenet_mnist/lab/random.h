/* The package's randomness (randomness.py) without NumPy and PyTorch, bit for bit: orders and starting weights. */

#pragma once

#include <stdint.h>

enum { ORDER = 4, INITIALISATION = 3, PROBE = 7 }; /* purposes, as in randomness.py */

/* random_order: the indices 0 .. count-1, sorted by their random keys. `spare` has room for 6 x `count` words. */
void random_order(uint64_t seed, int purpose, int position, int count, uint32_t *order, uint32_t *spare);

/* The generator of torch_generator(seed, purpose): MT19937. */
typedef struct {
    uint32_t state[624];
    int next;
} Generator;

void seed_generator(Generator *generator, uint64_t seed, int purpose);

/* torch's uniform_(-limit, limit), as processors with fused multiply-add have it. */
void uniform(Generator *generator, double limit, int count, float *values);
