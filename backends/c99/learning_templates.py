"""The C of learning on the device, as templates; see :mod:`snnc.backends.c99.learning`."""

LEARN_HEADER_TEXT = """\
/* Learning on the device for $name, compiled by snnc $version. Integers only, no allocation. */
#ifndef SNNC_LEARN_H
#define SNNC_LEARN_H

#include "$network"

#ifdef __cplusplus
extern "C" {
#endif

#define SNNC_LEARN_FEATURES $features /* counts at the cut */
#define SNNC_LEARN_ROWS $rows /* rows of a class until its sums could overflow */
#define SNNC_LEARN_PRODUCTS (SNNC_LEARN_FEATURES * (SNNC_LEARN_FEATURES + 1) / 2)
#ifndef SNNC_LEARN_CLASSES
#define SNNC_LEARN_CLASSES $capacity
#define SNNC_LEARN_RAM_AS_STATED
#endif
#if SNNC_LEARN_CLASSES < $least_classes
#error "SNNC_LEARN_CLASSES is below the $least_classes that the classes learned already need"
#endif
#if defined(SNNC_LEARN_GRAM) && SNNC_LEARN_CLASSES > $most_classes
#error "SNNC_LEARN_CLASSES is above $most_classes: sums of products could exceed 63 bits"
#endif

/* The sums over all rows of each class, and the weights that were made of them. */
typedef struct {
#ifdef SNNC_LEARN_GRAM
    int64_t gram[SNNC_LEARN_PRODUCTS]; /* the upper triangle, row by row */
#endif
    int32_t sums[SNNC_LEARN_CLASSES][SNNC_LEARN_FEATURES];
    int32_t rows[SNNC_LEARN_CLASSES];
    int8_t weight[SNNC_LEARN_CLASSES][SNNC_LEARN_FEATURES];
} snnc_learner;

#ifdef SNNC_LEARN_RAM_AS_STATED
#ifdef SNNC_LEARN_GRAM
typedef char snnc_learn_ram_is_as_stated[sizeof(snnc_learner) <= $ram_gram + 8 ? 1 : -1];
#else
typedef char snnc_learn_ram_is_as_stated[sizeof(snnc_learner) == $ram ? 1 : -1];
#endif
#endif

/* Begin with what the artefact has learned, or with nothing. */
void snnc_learn_begin(snnc_learner *learner);

/* Learn the row of the last run, which is over, as one of a class. Returns 1; or 0, and nothing happens,
   where the class is out of range or has SNNC_LEARN_ROWS rows. */
int32_t snnc_learn(snnc_learner *learner, const snnc_state *state, int32_t label);

/* Make weights of the sums. Returns how many classes have rows; or 0 where one has silent rows alone. */
int32_t snnc_learn_prototypes(snnc_learner *learner);

/* Return the class of the last run by these weights, the lowest on ties; -1 where there are none. */
int32_t snnc_learned_class(const snnc_learner *learner, const snnc_state *state);

#ifdef __cplusplus
}
#endif

#endif
"""

LEARN_SOURCE_TEXT = """\
/* Learning on the device for $name, compiled by snnc $version. */
#include "$header"

$tables
/* The count at the cut after a run. */
static int32_t count_at(const snnc_state *state, int32_t feature)
{
    int32_t total = 0;
    for (int32_t k = 0; k < $places; k++) {
        const int32_t place = places[feature * $places + k];
        if (place >= 0) {
            total += (int32_t)$counts[place];
        }
    }
    return total;
}

/* The largest integer whose square is not larger. */
static int64_t root(int64_t value)
{
    int64_t found = 0;
    for (int64_t bit = (int64_t)1 << 30; bit > 0; bit >>= 1) {
        if ((found + bit) * (found + bit) <= value) {
            found += bit;
        }
    }
    return found;
}

/* A quotient rounded down; the divisor is positive. */
static int64_t floored(int64_t value, int64_t divisor)
{
    const int64_t quotient = value / divisor;
    return quotient - (value % divisor < 0);
}

/* A sum of counts without its lowest bits, so many that all of the class have $bits bits. */
static int64_t shortened(const int32_t *sums, int32_t feature, int32_t shift)
{
    return floored(sums[feature], (int64_t)1 << shift);
}

static int32_t shift_of(const int32_t *sums)
{
    int64_t largest = 0;
    int32_t shift = 0;
    for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
        const int64_t value = sums[i] < 0 ? -(int64_t)sums[i] : sums[i];
        largest = value > largest ? value : largest;
    }
    while (largest >> shift >= (int64_t)1 << $bits) {
        shift++;
    }
    return shift;
}

static int64_t norm_of(const int32_t *sums, int32_t shift, int64_t *largest)
{
    int64_t squares = 0;
    *largest = 0;
    for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
        const int64_t value = shortened(sums, i, shift);
        const int64_t size = value < 0 ? -value : value;
        squares += value * value;
        *largest = size > *largest ? size : *largest;
    }
    return root($fraction * $fraction * squares);
}

void snnc_learn_begin(snnc_learner *learner)
{
    for (int32_t label = 0; label < SNNC_LEARN_CLASSES; label++) {
        learner->rows[label] = 0;
        for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
            learner->sums[label][i] = 0;
            learner->weight[label][i] = 0;
        }
    }
#ifdef SNNC_LEARN_GRAM
    for (int32_t i = 0; i < SNNC_LEARN_PRODUCTS; i++) {
        learner->gram[i] = 0;
    }
#endif$begin
}

int32_t snnc_learn(snnc_learner *learner, const snnc_state *state, int32_t label)
{
    if (label < 0 || label >= SNNC_LEARN_CLASSES || learner->rows[label] >= SNNC_LEARN_ROWS) {
        return 0;
    }
    learner->rows[label]++;
    for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
        learner->sums[label][i] += count_at(state, i);
    }
#ifdef SNNC_LEARN_GRAM
    int64_t *product = learner->gram;
    for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
        const int64_t count = count_at(state, i);
        for (int32_t j = i; j < SNNC_LEARN_FEATURES; j++) {
            *product++ += count * count_at(state, j);
        }
    }
#endif
    return 1;
}

int32_t snnc_learn_prototypes(snnc_learner *learner)
{
    int64_t q = INT64_MAX, largest = 0;
    int32_t classes = 0;
    for (int32_t label = 0; label < SNNC_LEARN_CLASSES; label++) {
        if (learner->rows[label] > 0) {
            const int32_t *const sums = learner->sums[label];
            const int64_t norm = norm_of(sums, shift_of(sums), &largest);
            if (norm == 0) {
                return 0;
            }
            q = $limit * norm / largest < q ? $limit * norm / largest : q;
            classes++;
        }
    }
    for (int32_t label = 0; label < SNNC_LEARN_CLASSES; label++) {
        if (learner->rows[label] > 0) {
            const int32_t *const sums = learner->sums[label];
            const int32_t shift = shift_of(sums);
            const int64_t norm = norm_of(sums, shift, &largest);
            for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
                const int64_t value = q * shortened(sums, i, shift);
                learner->weight[label][i] = (int8_t)floored(2 * value + norm, 2 * norm);
            }
        }
    }
    return classes;
}

int32_t snnc_learned_class(const snnc_learner *learner, const snnc_state *state)
{
    int64_t best = 0;
    int32_t answer = -1;
    for (int32_t label = 0; label < SNNC_LEARN_CLASSES; label++) {
        if (learner->rows[label] > 0) {
            int64_t cosine = 0;
            for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {
                cosine += (int64_t)learner->weight[label][i] * count_at(state, i);
            }
            if (answer < 0 || cosine > best) {
                best = cosine;
                answer = label;
            }
        }
    }
    return answer;
}
"""

LEARN_PROGRAM_TEXT = """\
/* Learns the golden inputs. Exits with 0 if sums, products, weights and answers are as expected. */
#include <stdio.h>

#include "$header"
#include "golden.h"

/* FNV-1a over the bytes of an int32, the lowest first. */
static uint32_t hashed(uint32_t hash, int32_t value)
{
    for (int shift = 0; shift < 32; shift += 8) {
        hash = (hash ^ (((uint32_t)value >> shift) & 255u)) * ${prime}u;
    }
    return hash;
}

static int differs(const char *what, uint32_t found, uint32_t expected)
{
    if (found != expected) {
        printf("wrong: %s\\n", what);
    }
    return found != expected;
}

int main(void)
{
    static snnc_state state;
    static snnc_learner learner;
    int32_t y[SNNC_OUTPUTS];
    uint32_t sums = ${offset}u, weights = ${offset}u, answers = ${offset}u;
    int wrong = 0;
    snnc_learn_begin(&learner);
    for (int32_t row = 0; row < GOLDEN_ROWS; row++) {
        wrong += !snnc_infer(&state, $inputs, SNNC_TIMESTEPS, y);
        wrong += !snnc_learn(&learner, &state, row % $classes);
    }
    wrong += snnc_learn(&learner, &state, -1) + snnc_learn(&learner, &state, SNNC_LEARN_CLASSES);
    if (snnc_learn_prototypes(&learner) != $expected) {
        printf("wrong: number of classes\\n");
        wrong++;
    }
    for (int32_t row = 0; row < GOLDEN_ROWS && $expected > 0; row++) {
        wrong += !snnc_infer(&state, $inputs, SNNC_TIMESTEPS, y);
        answers = hashed(answers, snnc_learned_class(&learner, &state));
    }
    for (int32_t label = 0; label < SNNC_LEARN_CLASSES; label++) {
        for (int32_t i = 0; i < SNNC_LEARN_FEATURES && learner.rows[label] > 0; i++) {
            sums = hashed(sums, learner.sums[label][i]);
            weights = $expected > 0 ? hashed(weights, learner.weight[label][i]) : weights;
        }
    }
    wrong += differs("sums", sums, ${sums}u);
    wrong += differs("weights", weights, ${weights}u);
    wrong += differs("answers", answers, ${answers}u);
#ifdef SNNC_LEARN_GRAM
    {
        uint32_t gram = ${offset}u;
        for (int32_t i = 0; i < SNNC_LEARN_PRODUCTS; i++) {
            const uint64_t value = (uint64_t)learner.gram[i];
            const uint32_t low = (uint32_t)(value & 0xffffffffu), high = (uint32_t)(value >> 32);
            for (int shift = 0; shift < 32; shift += 8) {
                gram = (gram ^ ((low >> shift) & 255u)) * ${prime}u;
            }
            for (int shift = 0; shift < 32; shift += 8) {
                gram = (gram ^ ((high >> shift) & 255u)) * ${prime}u;
            }
        }
        wrong += differs("products", gram, ${gram}u);
    }
#endif
    printf("%s\\n", wrong ? "FAILED" : "PASSED");
    return wrong != 0;
}
"""
