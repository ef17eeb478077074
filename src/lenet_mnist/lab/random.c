/* Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox 4x64); O'Neill's seed_seq, as in
 * NumPy's SeedSequence; Matsumoto and Nishimura, "Mersenne twister", 1998. */

#include "random.h"

#include <string.h>

enum { POOL = 4, TWISTER = 624, MIDDLE = 397 };

/* ------------------------------------------------------------------------------------------ SeedSequence ---- */

static uint32_t hash_mix(uint32_t value, uint32_t *constant) {
    value ^= *constant;
    *constant *= 0x931e8875u;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mix(uint32_t x, uint32_t y) {
    uint32_t result = x * 0xca01f9ddu - y * 0x4973f715u;
    return result ^ result >> 16;
}

/* SeedSequence((seed, purpose, ...)).generate_state(count); `words` is the entropy, 32 bits at a time. */
static void seed_words(const uint32_t *words, int num_words, int count, uint32_t *state) {
    uint32_t pool[POOL], constant = 0x43b0d7e5u;
    for (int i = 0; i < POOL; i++) pool[i] = hash_mix(i < num_words ? words[i] : 0, &constant);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to) pool[to] = mix(pool[to], hash_mix(pool[from], &constant));
    for (int from = POOL; from < num_words; from++)
        for (int to = 0; to < POOL; to++) pool[to] = mix(pool[to], hash_mix(words[from], &constant));
    constant = 0x8b51f9ddu;
    for (int i = 0; i < count; i++) {
        uint32_t value = pool[i % POOL] ^ constant;
        constant *= 0x58f38dedu;
        value *= constant;
        state[i] = value ^ value >> 16;
    }
}

/* NumPy takes a seed of more than 32 bits as two words. */
static int words_of(uint64_t seed, uint32_t *words) {
    words[0] = (uint32_t)seed;
    words[1] = (uint32_t)(seed >> 32);
    return words[1] == 0 ? 1 : 2;
}

/* ------------------------------------------------------------------------------------------------ Philox ---- */

static void multiply(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low) {
    unsigned __int128 product = (unsigned __int128)a * b;
    *high = (uint64_t)(product >> 64);
    *low = (uint64_t)product;
}

static void philox(uint64_t counter, const uint64_t key[2], uint64_t out[4]) {
    uint64_t x[4] = {counter}, k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t high0, low0, high1, low1;
        multiply(0xD2E7470EE14C6C93u, x[0], &high0, &low0);
        multiply(0xCA5A826395121157u, x[2], &high1, &low1);
        x[0] = high1 ^ x[1] ^ k0;
        x[1] = low1;
        x[2] = high0 ^ x[3] ^ k1;
        x[3] = low0;
        k0 += 0x9E3779B97F4A7C15u;
        k1 += 0xBB67AE8584CAA73Bu;
    }
    memcpy(out, x, sizeof x);
}

/* The indices 0 .. count-1, sorted by their random keys: random_order in randomness.py. `spare` has room for 6 x `count`
 * words. */
void EXPORT(lab_order)(double seed, int purpose, int position, int count, uint32_t *order, uint32_t *spare) {
    uint32_t words[4], state[4];
    int num_words = words_of((uint64_t)seed, words);
    words[num_words++] = (uint32_t)purpose;
    words[num_words++] = (uint32_t)position;
    seed_words(words, num_words, 4, state);
    uint64_t key[2] = {state[0] | (uint64_t)state[1] << 32, state[2] | (uint64_t)state[3] << 32};
    uint64_t *keys = (uint64_t *)spare, *sorted = keys + count;
    uint32_t *moved = (uint32_t *)(sorted + count);
    for (int i = 0; i < count; i += 4) {
        uint64_t four[4];
        philox((uint64_t)i / 4 + 1, key, four);
        for (int k = 0; k < 4 && i + k < count; k++) keys[i + k] = four[k];
    }
    for (int i = 0; i < count; i++) order[i] = (uint32_t)i;
    for (int shift = 0; shift < 64; shift += 8) { /* byte by byte, equal ones in their order */
        int places[257] = {0};
        for (int i = 0; i < count; i++) places[(keys[i] >> shift & 255) + 1]++;
        for (int byte = 0; byte < 256; byte++) places[byte + 1] += places[byte];
        for (int i = 0; i < count; i++) {
            int place = places[keys[i] >> shift & 255]++;
            sorted[place] = keys[i];
            moved[place] = order[i];
        }
        memcpy(keys, sorted, (size_t)count * sizeof *keys);
        memcpy(order, moved, (size_t)count * sizeof *order);
    }
}

/* --------------------------------------------------------------------------------------- Mersenne twister ---- */

void seed_generator(Generator *generator, uint64_t seed, int purpose) {
    uint32_t words[3], state[2], *s = generator->state;
    int num_words = words_of(seed, words);
    words[num_words++] = (uint32_t)purpose;
    seed_words(words, num_words, 2, state);
    s[0] = state[0]; /* torch takes the lower half */
    for (int i = 1; i < TWISTER; i++) s[i] = 1812433253u * (s[i - 1] ^ s[i - 1] >> 30) + (uint32_t)i;
    generator->next = TWISTER;
}

static uint32_t next(Generator *generator) {
    uint32_t *s = generator->state;
    if (generator->next == TWISTER) {
        for (int i = 0; i < TWISTER; i++) {
            uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % TWISTER] & 0x7fffffffu);
            s[i] = s[(i + MIDDLE) % TWISTER] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        generator->next = 0;
    }
    uint32_t y = s[generator->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void uniform(Generator *generator, double limit, int count, float *values) {
    float low = (float)-limit, width = (float)limit - low;
    for (int i = 0; i < count; i++) {
        float share = (float)(next(generator) & 0xffffffu) * 0x1p-24f;
        values[i] = (float)((double)share * width + low); /* the product is exact: rounded once */
    }
}
