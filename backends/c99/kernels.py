"""The loops of the C source, one template each; ``$`` stands for the types that a network needs.

All values are channels last: ``[row][column][channel]``.
"""

from __future__ import annotations

from string import Template

from snnc.backends.c99.fan_out import FAN_OUT
from snnc.backends.c99.firing import RULES
from snnc.backends.c99.functions import FUNCTIONS, HELPERS
from snnc.backends.c99.leaky import KEPT, LEAKY_KERNELS
from snnc.backends.c99.synapses import REACHED, SYNAPSES
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

_VALUES = {
    "zero": """
static void zero_$n0($t0 *values, int32_t size)
{
    for (int32_t i = 0; i < size; i++) {
        values[i] = 0;
    }
}
""",
    "add": """
static void add_${n0}_$n1(const $t0 *values, int32_t times, int32_t size, $t1 *total)
{
    for (int32_t i = 0; i < size; i++) {
        total[i] = ($t1)(total[i] + times * values[i]);
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
    "hold": """
/* Put what was sent behind what is held, of so many steps, the oldest of which is forgotten. */
static void hold_${n0}_$n1(const $t0 *sent, int32_t size, int32_t steps, $t1 *held)
{
    for (int32_t i = 0; i < (steps - 1) * size; i++) {
        held[i] = held[i + size];
    }
    for (int32_t i = 0; i < size; i++) {
        held[(steps - 1) * size + i] = ($t1)sent[i];
    }
}
""",
    "rest": """
static void rest_$n0(const int32_t *values, int32_t times, int32_t pixels, int32_t channels, $t0 *out)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            *out++ = ($t0)(times * values[c]);
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
    "gather": """
/* Values from wherever the index says; zero where it says -1. */
static void gather_${n0}_${n1}_$n2(
    const $t0 *restrict values, const $t1 *restrict index, int32_t size, $t2 *restrict out)
{
    for (int32_t i = 0; i < size; i++) {
        out[i] = index[i] < 0 ? 0 : ($t2)values[index[i]];
    }
}
""",
    "sum_pool": """
static void sum_pool_${n0}_$n1(const $t0 *restrict values, const window *g, $t1 *restrict out)
{
    const int32_t channels = g->in_size;
    for (int32_t down = 0; down < g->out_height; down++) {
        for (int32_t right = 0; right < g->out_width; right++, out += channels) {
            for (int32_t c = 0; c < channels; c++) {
                out[c] = 0;
            }
            for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                const int32_t y = down * g->stride_down + ky * g->dilation_down - g->top;
                for (int32_t kx = 0; y >= 0 && y < g->in_height && kx < g->kernel_width; kx++) {
                    const int32_t x = right * g->stride_right + kx * g->dilation_right - g->left;
                    if (x >= 0 && x < g->in_width) {
                        const $t0 *const value = values + (y * g->in_width + x) * channels;
                        for (int32_t c = 0; c < channels; c++) {
                            out[c] = ($t1)(out[c] + value[c]);
                        }
                    }
                }
            }
        }
    }
}
""",
    "max_pool": """
/* Padding never wins. */
static void max_pool_$n0(const $t0 *restrict values, const window *g, $t0 *restrict out)
{
    const int32_t channels = g->in_size;
    for (int32_t down = 0; down < g->out_height; down++) {
        for (int32_t right = 0; right < g->out_width; right++, out += channels) {
            for (int32_t c = 0; c < channels; c++) {
                out[c] = $lowest;
            }
            for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                const int32_t y = down * g->stride_down + ky * g->dilation_down - g->top;
                for (int32_t kx = 0; y >= 0 && y < g->in_height && kx < g->kernel_width; kx++) {
                    const int32_t x = right * g->stride_right + kx * g->dilation_right - g->left;
                    if (x >= 0 && x < g->in_width) {
                        const $t0 *const value = values + (y * g->in_width + x) * channels;
                        for (int32_t c = 0; c < channels; c++) {
                            out[c] = value[c] > out[c] ? value[c] : out[c];
                        }
                    }
                }
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

_CHARGED = {
    "charged": """
/* The potentials of neurons whose current is the same in each step: what came before, less what was spent. */
static void charged_${n0}_$n1(
    const population *p, const int32_t *restrict start, const int32_t *restrict constant, int32_t before,
    const $t0 *restrict sent, $t1 *restrict v)
{
    for (int32_t first = 0; first < p->pixels * p->channels; first += p->channels) {
        for (int32_t c = 0; c < p->channels; c++) {
            const int32_t i = first + c, current = constant[i] + (p->bias ? p->bias[c] : 0);
            v[i] = ($t1)(start[c] + before * current - sent[i] * p->threshold[c]);
        }
    }
}
"""
}

KERNELS = (
    _VALUES
    | _CHARGED
    | SYNAPSES
    | {"fan_out": FAN_OUT}
    | FUNCTIONS
    | {name: rule.template for name, rule in RULES.items()}
    | LEAKY_KERNELS
)
"""Kernel name -> text, in the order in which C needs them."""

_CALLS = {
    "convolve": ("list", "add_rows"),
    "convolve_along": ("list", "add_rows"),
    "convolve_large": ("list", "cut", "add_rows"),
    "convolve_along_large": ("list", "cut", "add_rows"),
}
_HELPERS = {REACHED: {*_CALLS, "depthwise", "fan_out"}, KEPT: set(LEAKY_KERNELS)} | HELPERS
"""Functions without types -> the kernels that call them."""


def kernel_name(kernel: str, types: Types) -> str:
    """Return the name of a kernel for given types."""
    return "_".join((kernel, *(width.short for width in types)))


def kernel_text(kernel: str, types: Types) -> str:
    """Return the C text of a kernel for given types."""
    names = {f"t{i}": width.type for i, width in enumerate(types)}
    names |= {f"n{i}": width.short for i, width in enumerate(types)}
    names["name"] = kernel_name(kernel, types)
    if types:
        # Listed spikes have 16 bits at least, which is what vectors multiply.
        names["event"] = max(types[0], Width.I16, key=lambda width: width.value).type
    if kernel == "max_pool":
        names["lowest"] = f"INT{8 * types[0].value}_MIN"
    return Template(KERNELS[kernel]).substitute(names)


def kernel_texts(used: set[tuple[str, Types]]) -> str:
    """Return all kernels that a source needs, each after those that it calls."""
    called = {
        (name, types if name == "add_rows" else types[:1])
        for kernel, types in used
        for name in _CALLS.get(kernel, ())
    }
    order = {kernel: index for index, kernel in enumerate(KERNELS)}
    wanted = sorted(used | called, key=lambda item: (order[item[0]], [width.value for width in item[1]]))
    kernels = {kernel for kernel, _ in wanted}
    helpers = [text for text, callers in _HELPERS.items() if callers & kernels]
    return "".join([*helpers, *(kernel_text(*item) for item in wanted)])
