/* The package's randomness (randomness.py) without NumPy and PyTorch, bit for bit: orders and starting weights. */

#pragma once

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

/* The generator of torch_generator(seed, purpose): MT19937. */
typedef struct {
    uint32_t state[624];
    int next;
} Generator;

void seed_generator(Generator *generator, uint64_t seed, int purpose);

/* torch's uniform_(-limit, limit), as processors with fused multiply-add have it. */
void uniform(Generator *generator, double limit, int count, float *values);
