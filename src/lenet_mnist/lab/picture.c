/* From a grey picture of a digit to the small one that the network sees: inference/pictures.py and data/decoding.py,
 * function by function; names and constants are theirs. A picture is `height` rows of `width` doubles. */

#include <stdlib.h>

#include "../model/native/lenet.h"
#include "random.h"

enum { DIGIT_SIZE = 20, LEAST_CONTRAST = 12, BORDER = 3, NOISE = 4, LEVELS = 256 };
static const double SIGMA_OF_MAD = 1.4826, STROKE = 0.25, DIRT = 0.05, DIGIT = 0.1, FULL = 0.9, REACH = 0.75;

/* Its ink, summed over its pixels, and a bit for each side of the picture that it meets. */
typedef struct {
    double mass;
    int sides, is_digit;
} Component;

/* What the page reads: each step of the preparation. */
typedef struct {
    int is_dark_on_light, num_components, top, bottom, left, right, fitted_height, fitted_width;
    double fitted[DIGIT_SIZE * DIGIT_SIZE];
    uint8_t seen[SIDE * SIDE];
} Steps;

/* Row or column `line` of a picture, with an odd reflection at both ends: what rises keeps rising. */
static double extended(const double *line, int step, int last, int place) {
    int turns = (int)floor((double)place / last), rest = place - turns * last;
    double end = line[last * step], rise = end - line[0];
    return turns % 2 == 0 ? line[rest * step] + turns * rise : 2 * end - line[(last - rest) * step] + (turns - 1) * rise;
}

/* The minimum over the 2 radius + 1 pixels around each along lines of `count` pixels; with sign -1 the maximum. */
static void slide(double *picture, int lines, int next, int count, int step, int radius, double sign) {
    radius = min_int(radius, (count - 1) / 2); /* some window must lie inside the line */
    double values[count + 2 * radius];
    for (double *line = picture; line < picture + lines * next; line += next) {
        int left = count + 2 * radius;
        for (int k = 0; k < left; k++) values[k] = sign * extended(line, step, count - 1, k - radius);
        for (int width = 1, more; width < 2 * radius + 1; width += more) { /* each value is the minimum of so many */
            more = min_int(width, 2 * radius + 1 - width);
            left -= more;
            for (int k = 0; k < left; k++) values[k] = fmin(values[k], values[k + more]);
        }
        for (int k = 0; k < count; k++) line[k * step] = sign * values[k];
    }
}

/* How much lighter each pixel is than its surroundings; of the inverted picture, how much darker. */
static void top_hat(const double *grey, int height, int width, int is_inverted, double *contrast) {
    int radius = (height > width ? height : width) / 4, count = height * width;
    for (int k = 0; k < count; k++) contrast[k] = is_inverted ? 255 - grey[k] : grey[k];
    for (int sign = 1; sign >= -1; sign -= 2) {
        slide(contrast, height, width, width, 1, radius, sign);
        slide(contrast, width, 1, height, width, radius, sign);
    }
    for (int k = 0; k < count; k++) contrast[k] = (is_inverted ? 255 - grey[k] : grey[k]) - contrast[k];
}

static double score(const double *contrast, int height, int width) {
    double all = 0, border = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int sides = (y == 0) + (y == height - 1) + (x == 0) + (x == width - 1);
            double square = contrast[y * width + x] * contrast[y * width + x];
            all += square;
            border += sides * square;
        }
    return sqrt(all / (height * width)) - BORDER * sqrt(border / (2 * (height + width)));
}

static double otsu_threshold(const double *values, int count) {
    double counts[LEVELS] = {0}, sum_all = 0, num_below = 0, sum_below = 0, best = -1, threshold = 0;
    for (int k = 0; k < count; k++) counts[(int)fmin(fmax(floor(values[k] + 0.5), 0), LEVELS - 1)]++;
    for (int level = 0; level < LEVELS; level++) sum_all += counts[level] * level;
    for (int level = 0; level < LEVELS; level++) {
        num_below += counts[level];
        sum_below += counts[level] * level;
        double num_above = count - num_below;
        double distance = sum_below / fmax(num_below, 1) - (sum_all - sum_below) / fmax(num_above, 1);
        double between = num_below * num_above * distance * distance;
        if (between > best) best = between, threshold = level + 0.5;
    }
    return threshold;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* Make of the contrast 0 for paper and 1 for full ink; return whether there is any. */
static int ink_of(double *contrast, int count, double *spare) {
    double threshold = otsu_threshold(contrast, count), *strokes = spare + count;
    int num_paper = 0;
    for (int k = 0; k < count; k++)
        if (contrast[k] > threshold) *--strokes = contrast[k];
        else spare[num_paper++] = contrast[k];
    double full_ink = num_paper < count ? median(strokes, count - num_paper) : 0, middle = median(spare, num_paper);
    for (int k = 0; k < num_paper; k++) spare[k] = fabs(spare[k] - middle);
    double no_ink = middle + NOISE * SIGMA_OF_MAD * median(spare, num_paper);
    if (num_paper == count || full_ink - no_ink < LEAST_CONTRAST) return 0;
    for (int k = 0; k < count; k++) contrast[k] = fmin(fmax((contrast[k] - no_ink) / (full_ink - no_ink), 0), 1);
    return 1;
}

static int meets_two(Component component) { return component.sides & (component.sides - 1); }

/* The component of the ink at `start`, a place in `labels`, which has a border of paper. */
static Component component_at(int start, int label, const double *ink, int height, int width, int *labels, int *inside) {
    int row = width + 2, steps[] = {-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1}, found = 1;
    Component component = {0};
    labels[inside[0] = start] = label;
    for (int k = 0; k < found; k++) { /* `found` grows in the loop */
        for (int s = 0; s < 8; s++)
            if (labels[inside[k] + steps[s]] == -1) labels[inside[found++] = inside[k] + steps[s]] = label;
        int y = inside[k] / row - 1, x = inside[k] % row - 1;
        component.mass += ink[y * width + x];
        component.sides |= (y == 0) | (y == height - 1) << 1 | (x == 0) << 2 | (x == width - 1) << 3;
    }
    return component;
}

/* Find the digit's components: their number and the box around them, and 0 for all other ink. */
static void keep_digit(double *ink, int height, int width, Component *components, int *labels, Steps *steps) {
    int row = width + 2, framed = (height + 2) * row, num_components = 0;
    double all_mass = 0, heaviest[2] = {0}; /* of all, and of those that meet less than two sides of the picture */
    memset(labels, 0, (size_t)framed * sizeof *labels);
    for (int k = 0; k < height * width; k++)
        if (ink[k] >= STROKE) labels[(k / width + 1) * row + k % width + 1] = -1;
    for (int k = 0; k < framed; k++) {
        if (labels[k] != -1) continue;
        Component c = component_at(k, num_components + 1, ink, height, width, labels, labels + framed);
        all_mass += c.mass;
        heaviest[0] = fmax(heaviest[0], c.mass);
        if (!meets_two(c)) heaviest[1] = fmax(heaviest[1], c.mass);
        components[num_components++] = c;
    }
    int has_inner = heaviest[1] >= DIGIT * all_mass;
    *steps = (Steps){.is_dark_on_light = steps->is_dark_on_light, .top = height, .left = width};
    for (Component *c = components; c < components + num_components; c++) {
        c->is_digit = c->mass >= DIRT * heaviest[has_inner] && !(has_inner && meets_two(*c));
        steps->num_components += c->is_digit;
    }
    for (int k = 0; k < height * width; k++) {
        int y = k / width, x = k % width, label = labels[(y + 1) * row + x + 1];
        if (label == 0) continue;
        if (!components[label - 1].is_digit) {
            ink[k] = 0;
            continue;
        }
        steps->top = min_int(steps->top, y);
        steps->left = min_int(steps->left, x);
        steps->bottom = y + 1;
        if (x >= steps->right) steps->right = x + 1;
    }
}

/* Scale lines of `size` values to `new_size`, by triangular averages. */
static void resample(const double *in, int lines, int in_next, int in_step, int size, int new_size, double *out,
                     int out_next, int out_step) {
    double weights[size], step = (double)size / new_size, reach = fmax(REACH * step, 1);
    for (int to = 0; to < new_size; to++) {
        double middle = (to + 0.5) * step - 0.5, sum = 0;
        for (int from = 0; from < size; from++) sum += weights[from] = fmax(0, 1 - fabs(from - middle) / reach);
        for (int line = 0; line < lines; line++) {
            double total = 0;
            for (int from = 0; from < size; from++) total += weights[from] / sum * in[line * in_next + from * in_step];
            out[line * out_next + to * out_step] = total;
        }
    }
}

static void fit(const double *ink, int width, double *spare, Steps *steps) {
    int high = steps->bottom - steps->top, wide = steps->right - steps->left, num_strokes = 0;
    double scale = (double)DIGIT_SIZE / (high > wide ? high : wide), strongest = 0, *fitted = steps->fitted;
    int rows = (int)fmax(1, floor(high * scale + 0.5)), columns = (int)fmax(1, floor(wide * scale + 0.5));
    resample(&ink[steps->top * width + steps->left], high, width, 1, wide, columns, spare, columns, 1);
    resample(spare, columns, 1, columns, high, rows, fitted, 1, columns);
    for (int k = 0; k < rows * columns; k++) strongest = fmax(strongest, fitted[k]);
    for (int k = 0; k < rows * columns; k++)
        if (fitted[k] >= STROKE * strongest) spare[num_strokes++] = fitted[k];
    qsort(spare, (size_t)num_strokes, sizeof *spare, ascending);
    double full = spare[(int)(FULL * (num_strokes - 1))];
    for (int k = 0; k < rows * columns; k++) fitted[k] = fmin(fitted[k] / full, 1);
    steps->fitted_height = rows;
    steps->fitted_width = columns;
}

static int start_of(double middle, int size) {
    return (int)fmin(fmax(floor(SIDE / 2 - middle + 0.5), 0), SIDE - size);
}

static void centre(Steps *steps) {
    int height = steps->fitted_height, width = steps->fitted_width;
    double mass = 0, y = 0, x = 0;
    for (int k = 0; k < height * width; k++) {
        mass += steps->fitted[k];
        y += steps->fitted[k] * (k / width);
        x += steps->fitted[k] * (k % width);
    }
    uint8_t *seen = &steps->seen[start_of(y / mass, height) * SIDE + start_of(x / mass, width)];
    memset(steps->seen, 0, sizeof steps->seen);
    for (int k = 0; k < height * width; k++)
        seen[k / width * SIDE + k % width] = (uint8_t)floor(255 * steps->fitted[k] + 0.5);
}

/* Prepare the picture `grey`, whose contrast goes to `contrast`, and its ink to `ink`: the digit's after the last step.
 * Return 1, 0 if there is no ink in it, and -1 if there is no memory. */
int EXPORT(lab_prepare)(const double *grey, int height, int width, double *contrast, double *ink, Steps *steps) {
    size_t count = (size_t)(height + 2) * (size_t)(width + 2);
    double *spare = malloc(count * sizeof *spare);
    int *labels = malloc(2 * count * sizeof *labels), found = -1;
    Component *components = malloc(count / 4 * sizeof *components); /* no two of them touch */
    if (spare != NULL && labels != NULL && components != NULL) {
        size_t bytes = (size_t)(height * width) * sizeof *ink;
        top_hat(grey, height, width, 1, contrast);
        top_hat(grey, height, width, 0, ink);
        steps->is_dark_on_light = score(contrast, height, width) >= score(ink, height, width);
        if (steps->is_dark_on_light) memcpy(ink, contrast, bytes);
        else memcpy(contrast, ink, bytes);
        found = ink_of(ink, height * width, spare);
    }
    if (found == 1) {
        keep_digit(ink, height, width, components, labels, steps);
        fit(ink, width, spare, steps);
        centre(steps);
    }
    free(spare);
    free(labels);
    free(components);
    return found;
}
