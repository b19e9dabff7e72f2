"""The loops of the C source, one template each; ``$`` stands for the types that a network needs.

All values are channels last: ``[row][column][channel]``. A convolution lists the channels of a pixel that
spiked and adds the rows of the weight that they select, four at a time, so its cost follows the number of
spikes. Division rounds toward minus infinity, which C's does not.
"""

from __future__ import annotations

from string import Template

from snnc.backends.c99.widths import Width

Types = tuple[Width, ...]

STRUCTURES = """
/* A window that slides over rows and columns; sizes are channels per group. */
typedef struct {
    int32_t in_height, in_width, out_height, out_width, groups, in_size, out_size;
    int32_t kernel_height, kernel_width, stride_down, stride_right, dilation_down, dilation_right, top, left;
} window;

/* A block of values, and how far apart its neighbours lie here and there. */
typedef struct {
    int32_t rows, columns, channels;
    int32_t from_row, from_column, from_channel, to_row, to_column, to_channel;
} block;

/* The constants of a population; bias is null where it is zero. */
typedef struct {
    const int32_t *threshold, *bias, *negative_threshold;
    int32_t pixels, channels, levels, limit;
} population;
"""

_REACH = """
/* Return the row or column of the output whose window has its part k at position i, or -1. */
static int32_t reached(int32_t i, int32_t k, int32_t dilation, int32_t stride, int32_t before, int32_t size)
{
    const int32_t distance = i + before - k * dilation;
    if (distance < 0 || distance % stride != 0 || distance / stride >= size) {
        return -1;
    }
    return distance / stride;
}
"""

_FLOOR = """
static int32_t floor_divide(int32_t m, int32_t theta)
{
    const int32_t quotient = m / theta;
    return m % theta < 0 ? quotient - 1 : quotient;
}
"""

_TEMPLATES = {
    "zero": """
static void zero_$n0($t0 *values, int32_t size)
{
    for (int32_t i = 0; i < size; i++) {
        values[i] = 0;
    }
}
""",
    "add": """
static void add_$n0(const $t0 *values, int32_t times, int32_t size, int32_t *total)
{
    for (int32_t i = 0; i < size; i++) {
        total[i] += times * values[i];
    }
}
""",
    "present": """
static void present_${n0}_$n1(const $t0 *values, int32_t times, int32_t size, $t1 *out)
{
    for (int32_t i = 0; i < size; i++) {
        out[i] = ($t1)(times * values[i]);
    }
}
""",
    "rest": """
static void rest(const int32_t *values, int32_t times, int32_t pixels, int32_t channels, int32_t *out)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            *out++ = times * values[c];
        }
    }
}
""",
    "move": """
static void move_${n0}_$n1(const $t0 *from, const block *b, $t1 *to)
{
    for (int32_t y = 0; y < b->rows; y++) {
        for (int32_t x = 0; x < b->columns; x++) {
            for (int32_t c = 0; c < b->channels; c++) {
                to[y * b->to_row + x * b->to_column + c * b->to_channel] =
                    ($t1)from[y * b->from_row + x * b->from_column + c * b->from_channel];
            }
        }
    }
}
""",
    "add_rows": """
/* Add the selected rows of a weight, each times its spike. Two products fit into $product. */
static void add_rows_${n0}_$n1(
    const $t1 *weight, const int32_t *row, const int32_t *spike, int32_t events, int32_t size,
    int32_t *current)
{
    int32_t e = 0;
    for (; e + 4 <= events; e += 4) {
        const $t1 *w0 = weight + row[e], *w1 = weight + row[e + 1];
        const $t1 *w2 = weight + row[e + 2], *w3 = weight + row[e + 3];
        const $product s0 = ($product)spike[e], s1 = ($product)spike[e + 1];
        const $product s2 = ($product)spike[e + 2], s3 = ($product)spike[e + 3];
        for (int32_t o = 0; o < size; o++) {
            const $product low = ($product)(s0 * w0[o] + s1 * w1[o]);
            const $product high = ($product)(s2 * w2[o] + s3 * w3[o]);
            current[o] += low + high;
        }
    }
    for (; e < events; e++) {
        const $t1 *w = weight + row[e];
        const int32_t s = spike[e];
        for (int32_t o = 0; o < size; o++) {
            current[o] += s * w[o];
        }
    }
}
""",
    "convolve": """
static void convolve_${n0}_$n1(const $t0 *spikes, const $t1 *weight, const window *g, int32_t *current)
{
    int32_t row[EVENTS], spike[EVENTS];
    const int32_t kernel = g->kernel_height * g->kernel_width;
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t x = 0; x < g->in_width; x++) {
            for (int32_t group = 0; group < g->groups; group++) {
                for (int32_t first = 0; first < g->in_size; first += EVENTS) {
                    const int32_t last = g->in_size - first < EVENTS ? g->in_size : first + EVENTS;
                    int32_t events = 0;
                    for (int32_t i = first; i < last; i++) {
                        const int32_t s = *spikes++;
                        row[events] = i * g->out_size;
                        spike[events] = s;
                        events += s != 0;
                    }
                    for (int32_t k = 0; events > 0 && k < kernel; k++) {
                        const int32_t down = reached(
                            y, k / g->kernel_width, g->dilation_down, g->stride_down, g->top, g->out_height);
                        const int32_t right = reached(
                            x, k % g->kernel_width, g->dilation_right, g->stride_right, g->left,
                            g->out_width);
                        if (down >= 0 && right >= 0) {
                            const int32_t pixel = down * g->out_width + right;
                            add_rows_${n0}_$n1(
                                weight + (group * kernel + k) * g->in_size * g->out_size, row, spike, events,
                                g->out_size, current + (pixel * g->groups + group) * g->out_size);
                        }
                    }
                }
            }
        }
    }
}
""",
    "depthwise": """
/* A convolution whose channels do not meet. */
static void depthwise_${n0}_$n1(const $t0 *spikes, const $t1 *weight, const window *g, int32_t *current)
{
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t x = 0; x < g->in_width; x++, spikes += g->groups) {
            const $t1 *w = weight;
            for (int32_t k = 0; k < g->kernel_height * g->kernel_width; k++, w += g->groups) {
                const int32_t down = reached(
                    y, k / g->kernel_width, g->dilation_down, g->stride_down, g->top, g->out_height);
                const int32_t right = reached(
                    x, k % g->kernel_width, g->dilation_right, g->stride_right, g->left, g->out_width);
                if (down >= 0 && right >= 0) {
                    int32_t *out = current + (down * g->out_width + right) * g->groups;
                    for (int32_t c = 0; c < g->groups; c++) {
                        out[c] += (int32_t)spikes[c] * w[c];
                    }
                }
            }
        }
    }
}
""",
    "scale": """
static void scale_${n0}_$n1(
    const $t0 *spikes, const $t1 *weight, int32_t pixels, int32_t channels, int32_t *current)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            *current++ += (int32_t)*spikes++ * weight[c];
        }
    }
}
""",
    "sum_pool": """
static void sum_pool_${n0}_$n1(const $t0 *values, const window *g, $t1 *out)
{
    for (int32_t down = 0; down < g->out_height; down++) {
        for (int32_t right = 0; right < g->out_width; right++) {
            for (int32_t c = 0; c < g->in_size; c++) {
                int32_t sum = 0;
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t y = down * g->stride_down + ky * g->dilation_down - g->top;
                    for (int32_t kx = 0; y >= 0 && y < g->in_height && kx < g->kernel_width; kx++) {
                        const int32_t x = right * g->stride_right + kx * g->dilation_right - g->left;
                        if (x >= 0 && x < g->in_width) {
                            sum += values[(y * g->in_width + x) * g->in_size + c];
                        }
                    }
                }
                *out++ = ($t1)sum;
            }
        }
    }
}
""",
    "max_pool": """
/* Padding never wins. */
static void max_pool_$n0(const $t0 *values, const window *g, $t0 *out)
{
    for (int32_t down = 0; down < g->out_height; down++) {
        for (int32_t right = 0; right < g->out_width; right++) {
            for (int32_t c = 0; c < g->in_size; c++) {
                $t0 highest = $lowest;
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t y = down * g->stride_down + ky * g->dilation_down - g->top;
                    for (int32_t kx = 0; y >= 0 && y < g->in_height && kx < g->kernel_width; kx++) {
                        const int32_t x = right * g->stride_right + kx * g->dilation_right - g->left;
                        if (x >= 0 && x < g->in_width) {
                            const $t0 value = values[(y * g->in_width + x) * g->in_size + c];
                            highest = value > highest ? value : highest;
                        }
                    }
                }
                *out++ = highest;
            }
        }
    }
}
""",
    "difference": """
/* What the highest count gained in this step. */
static void difference_${n0}_$n1(const $t0 *now, int32_t size, $t0 *before, $t1 *out)
{
    for (int32_t i = 0; i < size; i++) {
        out[i] = ($t1)(now[i] - before[i]);
        before[i] = now[i];
    }
}
""",
}

_FIRE = """
/* $what */
static void $name(
    const population *p, const int32_t *current, const int32_t *constant, int32_t times, int32_t timesteps,
    int32_t *v, $t1 *sent$spikes)
{
    $prepare
    int32_t i = 0;
    for (int32_t pixel = 0; pixel < p->pixels; pixel++) {
        for (int32_t c = 0; c < p->channels; c++, i++) {
            const int32_t theta = p->threshold[c];
            int32_t m = v[i], s = 0;
            if (current) {
                m += current[i];
            }
            if (constant) {
                m += times * constant[i];
            }
            if (p->bias) {
                m += times * p->bias[c];
            }
            $rule
            v[i] = m - s * theta;
            sent[i] = ($t1)(sent[i] + s);$store
        }
    }
}
"""

_CAPACITY = "const int32_t capacity = timesteps * p->levels;"
_NO_CAPACITY = "(void)timesteps;"

FIRE = {
    "fire_once": (
        "At most one spike a step, taken back where too many were sent.",
        _CAPACITY,
        "s = m >= theta ? sent[i] < capacity : m < 0 ? -(sent[i] > 0) : 0;",
    ),
    "fire_negative": (
        "As the first, but spikes are only taken back below a threshold of their own.",
        _CAPACITY,
        "s = m >= theta ? sent[i] < capacity : m < -p->negative_threshold[c] ? -(sent[i] > 0) : 0;",
    ),
    "fire_twice": (
        "As the first, but up to two spikes a step.",
        _CAPACITY,
        """const int32_t room = capacity - sent[i];
            const int32_t high = room < 2 ? room : 2, low = sent[i] < 2 ? -sent[i] : -2;
            s = (m >= theta) + (m >= 2 * theta) - (m < 0) - (m < -theta);
            s = s < low ? low : s;
            s = s > high ? high : s;""",
    ),
    "fire_several": (
        "Up to limit spikes a step, taken back where too many were sent.",
        _CAPACITY,
        """if (m < 0 || m >= theta) {
                const int32_t room = capacity - sent[i];
                const int32_t high = room < p->limit ? room : p->limit;
                const int32_t low = sent[i] < p->limit ? -sent[i] : -p->limit;
                s = floor_divide(m, theta);
                s = s < low ? low : s;
                s = s > high ? high : s;
            }""",
    ),
    "fire_graded": (
        "As many spikes a step as fit, taken back where too many were sent.",
        _CAPACITY,
        """if (m < 0 || m >= theta) {
                const int32_t high = capacity - sent[i];
                s = floor_divide(m, theta);
                s = s < -sent[i] ? -sent[i] : s;
                s = s > high ? high : s;
            }""",
    ),
    "fire_plain": (
        "Integrate-and-fire without memory: up to limit spikes a step.",
        _NO_CAPACITY,
        """if (m >= theta) {
                s = m / theta;
                s = s > p->limit ? p->limit : s;
            }""",
    ),
    "fire_after_all": (
        "The whole run at once: all input has arrived.",
        _CAPACITY,
        """if (m >= theta) {
                s = m / theta;
                s = s > capacity ? capacity : s;
            }""",
    ),
}
"""The kinds of population: what they do, what is prepared, and the rule that finds ``s`` from ``m``."""

NEEDS = {
    "convolve": ("reached",),
    "depthwise": ("reached",),
    "fire_several": ("floor_divide",),
    "fire_graded": ("floor_divide",),
}
_PLAIN = {"reached": _REACH, "floor_divide": _FLOOR}

EVENTS = 64
"""Channels of a pixel that are looked at together; their list lies on the stack."""


def kernel_name(kernel: str, types: Types) -> str:
    """Return the name of a kernel for given types."""
    return "_".join((kernel, *(width.short for width in types)))


def kernel_text(kernel: str, types: Types) -> str:
    """Return the C text of a kernel for given types."""
    names = {f"t{i}": width.type for i, width in enumerate(types)}
    names |= {f"n{i}": width.short for i, width in enumerate(types)}
    if kernel in _TEMPLATES:
        if kernel == "max_pool":
            names["lowest"] = f"INT{8 * types[0].value}_MIN"
        if kernel == "add_rows":
            # Magnitudes are at most 127, and 2 * 127 * 127 < 2^15: twice as many fit into a vector register.
            names["product"] = (Width.I16 if types == (Width.I8, Width.I8) else Width.I32).type
        return Template(_TEMPLATES[kernel]).substitute(names)
    what, prepare, rule = FIRE[kernel]
    whole = kernel == "fire_after_all"  # then the count is all that there is to store
    return Template(_FIRE).substitute(
        names,
        what=what,
        name=kernel_name(kernel, types),
        prepare=prepare,
        rule=rule,
        spikes="" if whole else f", {types[0].type} *spikes",
        store="" if whole else f"\n            spikes[i] = ({types[0].type})s;",
    )


def kernel_texts(used: set[tuple[str, Types]]) -> str:
    """Return all kernels that a source needs, each after those that it calls."""
    convolved = {("add_rows", types) for kernel, types in used if kernel == "convolve"}
    plain = sorted({name for kernel, _ in used for name in NEEDS.get(kernel, ())})
    order = [*_TEMPLATES, *FIRE]
    key = {kernel: index for index, kernel in enumerate(order)}
    wanted = sorted(used | convolved, key=lambda item: (key[item[0]], [width.value for width in item[1]]))
    return "".join([*(_PLAIN[name] for name in plain), *(kernel_text(*item) for item in wanted)])
