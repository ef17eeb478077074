/* Runs a compiled network on problems whose answers are known, where there is no Python: see check_wheels.py.
 *
 *     check_library LIBRARY PROBLEMS
 *
 * A problem: six int32 (images, classes, activation, and the numbers of parameters, logits and gradients), then float32:
 * images, parameters, and of float64's arithmetic the loss, the logits and the gradients; before them int64 labels. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#define OPEN(path) (void *)LoadLibraryA(path)
#define FIND(library, name) (void *)GetProcAddress((HMODULE)(library), name)
#else
#include <dlfcn.h>
#define OPEN(path) dlopen(path, RTLD_NOW)
#define FIND(library, name) dlsym(library, name)
#endif

enum { PARAMETERS = 10, MOST_THREADS = 3 };

typedef int64_t Workspace(int n, int classes, int threads);
typedef void Forward(int n, int classes, int activation, const float *images, const float *const *parameters,
                     void *workspace, float *logits, int threads);
typedef int Gradient(int n, int classes, int activation, const float *images, const float *const *parameters,
                     void *workspace, const int64_t *labels, float smoothing, float scale, float *const *gradients,
                     float sums[2], int threads);

static void *take(FILE *file, size_t count, size_t size) {
    void *memory = malloc(count * size);
    if (memory == NULL || fread(memory, size, count, file) != count) exit(2);
    return memory;
}

/* The largest difference, as a share of the largest value. */
static double error_of(const float *found, const float *expected, int count) {
    double worst = 0, largest = 0;
    for (int i = 0; i < count; i++) {
        double difference = fabs((double)found[i] - expected[i]);
        if (!(difference <= worst)) worst = difference; /* NaN stays */
        largest = fmax(largest, fabs(expected[i]));
    }
    return worst / largest;
}

int main(int count, char **arguments) {
    void *library = count == 3 ? OPEN(arguments[1]) : NULL;
    FILE *file = count == 3 ? fopen(arguments[2], "rb") : NULL;
    if (library == NULL || file == NULL) return 2;
    Workspace *workspace_of = (Workspace *)FIND(library, "lenet_workspace");
    Forward *forward = (Forward *)FIND(library, "lenet_forward");
    Gradient *gradient = (Gradient *)FIND(library, "lenet_gradient");
    int (*processor)(void) = (int (*)(void))FIND(library, "lenet_processor");
    if (!workspace_of || !forward || !gradient || !processor) return 2;

    double worst = 0;
    int problems = 0, are_same = 1;
    int32_t sizes[3];
    while (fread(sizes, sizeof sizes, 1, file) == 1) {
        int n = sizes[0], classes = sizes[1];
        int shapes[PARAMETERS] = {150, 6, 2400, 16, 48000, 120, 10080, 84, 84 * classes, classes}, all = 0;
        int64_t *labels = take(file, n, sizeof *labels);
        float *images = take(file, (size_t)n * 28 * 28, sizeof *images);
        float *parameters[PARAMETERS], *gradients[PARAMETERS];
        for (int k = 0; k < PARAMETERS; k++) {
            parameters[k] = take(file, shapes[k], sizeof(float));
            all += shapes[k];
        }
        float *loss = take(file, 1, sizeof(float)), *logits = take(file, (size_t)n * classes, sizeof(float));
        float *expected = take(file, all, sizeof(float)), *found = malloc(all * sizeof(float));
        float *again = malloc(all * sizeof(float)), *own_logits = malloc((size_t)n * classes * sizeof(float)), sums[2];
        void *workspace = malloc(workspace_of(n, classes, MOST_THREADS) + 64);
        void *aligned = (void *)(((uintptr_t)workspace + 63) / 64 * 64);
        for (int threads = 1; threads <= MOST_THREADS; threads++) {
            forward(n, classes, sizes[2], images, (const float *const *)parameters, aligned, own_logits, threads);
            worst = fmax(worst, error_of(own_logits, logits, n * classes));
            for (int round = 0; round < 2; round++) {
                for (int k = 0, from = 0; k < PARAMETERS; from += shapes[k++])
                    gradients[k] = &(round ? again : found)[from];
                if (!gradient(n, classes, sizes[2], images, (const float *const *)parameters, aligned, labels, 0,
                              1.0f / n, gradients, sums, threads)) return 2;
            }
            worst = fmax(worst, fmax(error_of(found, expected, all), error_of(sums, loss, 1)));
            are_same &= memcmp(found, again, all * sizeof(float)) == 0;
        }
        problems++;
    }
    printf("%d problems, 1 to %d threads: largest error %.1e, repeated %s; processor %d\n", problems, MOST_THREADS, worst,
           are_same ? "to the last bit" : "WITH OTHER BITS", processor());
    return problems > 0 && are_same && worst <= 5e-6 ? 0 : 1;
}
