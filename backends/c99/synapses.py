"""The C loops of the synapses: what a spike adds to the potentials of the neurons that it reaches.

A convolution lists the channels of a pixel that spiked, and adds the rows of the weight that they select: its
cost follows the number of spikes. Sixteen neighbouring neurons are summed at a time, in a form that compilers
put into vector registers; up to three such sums side by side share the look-ups of rows and spikes.
"""

from __future__ import annotations

from string import Template

from snnc.backends.c99.widths import Width

EVENTS = 64
"""Channels of a pixel that are looked at together; their list lies on the stack."""

MOST_IN_SHORT_SUMS = (2**15 - 1) // 127
"""Magnitudes of spikes may add up to this where each counts an int8 weight and their sum is an int16."""


def sum_width(spikes: Width, weight: Width) -> Width:
    """Return the type for the sum of a list of spikes, each times a weight."""
    return Width.I16 if spikes is weight is Width.I8 else Width.I32


def always_fits(total: Width, channels: int, largest: int) -> bool:
    """Whether every list of spikes has a sum of that type; if not, lists have to be cut.

    Args:
        total: type of the sum.
        channels: that are read, per group.
        largest: magnitude of a spike.
    """
    return total is Width.I32 or min(channels, EVENTS) * largest <= MOST_IN_SHORT_SUMS


REACHED = """
/* Return the row or column of the output whose window has its part k at position i, or -1. */
static int32_t reached(int32_t i, int32_t k, int32_t dilation, int32_t stride, int32_t before, int32_t size)
{
    const int32_t distance = i + before - k * dilation;
    /* The usual strides need no division. */
    const int32_t found = stride == 1 ? distance : stride == 2 ? distance / 2 : distance / stride;
    return distance >= 0 && found * stride == distance && found < size ? found : -1;
}
"""

_LIST = """
/* List who spiked: where the row of the weight begins, and how often. */
static int32_t list_$n0(
    const $t0 *restrict spikes, int32_t first, int32_t last, int32_t apart, int32_t *restrict row,
    $event *restrict spike)
{
    int32_t events = 0;
    for (int32_t i = first; i < last; i++) {
        row[events] = i * apart;
        spike[events] = spikes[i];
        events += spikes[i] != 0;
    }
    return events;
}
"""

_CUT = f"""
/* Return where a list has to end so that its spikes, each times a weight, can be summed in 16 bits. */
static int32_t cut_$n0(const $t0 *spikes, int32_t first, int32_t last)
{{
    int32_t total = 0;
    for (int32_t i = first; i < last; i++) {{
        total += spikes[i] < 0 ? -spikes[i] : spikes[i];
    }}
    while (total > {MOST_IN_SHORT_SUMS}) {{
        last--;
        total -= spikes[last] < 0 ? -spikes[last] : spikes[last];
    }}
    return last;
}}
"""

_SIDE_BY_SIDE = (3, 2, 1)
"""Sums of sixteen neurons that are taken at a time, the most first."""


def _sums(count: int) -> str:
    """Return the C loop that takes so many sums of sixteen neurons at a time."""
    size = 16 * count

    def each(line: str, indent: int) -> str:
        texts = (line.format(sum=f"sum{i}", at=f"i + {16 * i}" if i else "i") for i in range(count))
        return "".join(f"\n{' ' * indent}{text}" for text in texts)

    sums = ", ".join(f"sum{i}[16] = {{0}}" for i in range(count))
    return f"""
    for (; size >= {size}; size -= {size}, weight += {size}, current += {size}) {{
        $t2 {sums};
        for (int32_t e = 0; e < events; e++) {{
            const $t1 *const w = weight + row[e];
            const $t2 s = spike[e];{
        each("for (int32_t i = 0; i < 16; i++) {{ {sum}[i] = ($t2)({sum}[i] + s * w[{at}]); }}", 12)
    }
        }}
        for (int32_t i = 0; i < 16; i++) {{{each("current[{at}] = ($t3)(current[{at}] + {sum}[i]);", 12)}
        }}
    }}"""


_ADD_ROWS = f"""
/* Add the selected rows of a weight, each times its spike; sixteen sums at a time fit into $t2. */
static void add_rows_${{n0}}_${{n1}}_${{n2}}_$n3(
    const $t1 *restrict weight, const int32_t *restrict row, const $event *restrict spike, int32_t events,
    int32_t size, $t3 *restrict current)
{{{"".join(map(_sums, _SIDE_BY_SIDE))}
    for (int32_t e = 0; e < events; e++) {{
        const $t1 *const w = weight + row[e];
        const int32_t s = spike[e];
        for (int32_t i = 0; i < size; i++) {{
            current[i] = ($t3)(current[i] + s * w[i]);
        }}
    }}
}}
"""

_CONVOLVE = """
static void $name(
    const $t0 *restrict spikes, const $t1 *restrict weight, const window *g, $t3 *restrict current)
{
    int32_t row[EVENTS];
    $event spike[EVENTS];
    const int32_t apart = g->kernel_width * g->out_size, plane = g->in_size * apart;
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t x = 0; x < g->in_width; x++) {
            for (int32_t group = 0; group < g->groups; group++, spikes += g->in_size) {
                const $t1 *const selected = weight + group * g->kernel_height * plane;
                for (int32_t first = 0, last; first < g->in_size; first = last) {
                    const int32_t all = g->in_size - first < EVENTS ? g->in_size : first + EVENTS;
                    last = $end;
                    int32_t events = -1;
                    for (int32_t ky = 0; events != 0 && ky < g->kernel_height; ky++) {
                        const int32_t down = reached(
                            y, ky, g->dilation_down, g->stride_down, g->top, g->out_height);
                        for (int32_t kx = 0; down >= 0 && kx < g->kernel_width; kx++) {
                            const int32_t right = reached(
                                x, kx, g->dilation_right, g->stride_right, g->left, g->out_width);
                            const int32_t before = ky * plane + (g->kernel_width - 1 - kx) * g->out_size;
                            const int32_t pixel = down * g->out_width + right;
                            if (right >= 0) {
                                if (events < 0) {
                                    events = list_$n0(spikes, first, last, apart, row, spike);
                                }
                                add_rows_${n0}_${n1}_${n2}_$n3(
                                    selected + before, row, spike, events, g->out_size,
                                    current + (pixel * g->groups + group) * g->out_size);
                            }
                        }
                    }
                }
            }
        }
    }
}
"""

_CONVOLVE_ALONG = """
/* As the window moves by one column, what a spike adds to a row of the output lies together. */
static void $name(
    const $t0 *restrict spikes, const $t1 *restrict weight, const window *g, $t3 *restrict current)
{
    int32_t row[EVENTS];
    $event spike[EVENTS];
    const int32_t apart = g->kernel_width * g->out_size, plane = g->in_size * apart;
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t x = 0; x < g->in_width; x++, spikes += g->in_size) {
            const int32_t from = x + g->left - g->kernel_width + 1;
            const int32_t left = from < 0 ? 0 : from;
            const int32_t end = from + g->kernel_width < g->out_width ? from + g->kernel_width : g->out_width;
            for (int32_t first = 0, last; left < end && first < g->in_size; first = last) {
                const int32_t all = g->in_size - first < EVENTS ? g->in_size : first + EVENTS;
                last = $end;
                const int32_t events = list_$n0(spikes, first, last, apart, row, spike);
                for (int32_t ky = 0; events > 0 && ky < g->kernel_height; ky++) {
                    const int32_t down = reached(
                        y, ky, g->dilation_down, g->stride_down, g->top, g->out_height);
                    if (down >= 0) {
                        add_rows_${n0}_${n1}_${n2}_$n3(
                            weight + ky * plane + (left - from) * g->out_size, row, spike, events,
                            (end - left) * g->out_size, current + (down * g->out_width + left) * g->out_size);
                    }
                }
            }
        }
    }
}
"""


def _whole(convolve: str) -> str:
    """Return a kernel all of whose lists can be summed."""
    return Template(convolve).safe_substitute(end="all")


def _cut(convolve: str) -> str:
    """Return a kernel that ends its lists before their sums overflow."""
    return Template(convolve).safe_substitute(end="cut_$n0(spikes, first, all)")


_DEPTHWISE = """
/* A convolution whose channels do not meet. */
static void depthwise_${n0}_${n1}_$n2(
    const $t0 *restrict spikes, const $t1 *restrict weight, const window *g, $t2 *restrict current)
{
    const int32_t channels = g->groups;
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t ky = 0; ky < g->kernel_height; ky++) {
            const int32_t down = reached(y, ky, g->dilation_down, g->stride_down, g->top, g->out_height);
            for (int32_t x = 0; down >= 0 && x < g->in_width; x++) {
                const $t0 *const s = spikes + (y * g->in_width + x) * channels;
                for (int32_t kx = 0; kx < g->kernel_width; kx++) {
                    const int32_t right = reached(
                        x, kx, g->dilation_right, g->stride_right, g->left, g->out_width);
                    if (right >= 0) {
                        const $t1 *const w = weight + (ky * g->kernel_width + kx) * channels;
                        $t2 *const out = current + (down * g->out_width + right) * channels;
                        for (int32_t c = 0; c < channels; c++) {
                            out[c] = ($t2)(out[c] + s[c] * w[c]);
                        }
                    }
                }
            }
        }
    }
}
"""

_SCALE = """
static void scale_${n0}_${n1}_$n2(
    const $t0 *restrict spikes, const $t1 *restrict weight, int32_t pixels, int32_t channels,
    $t2 *restrict current)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = p * channels + c;
            current[i] = ($t2)(current[i] + spikes[i] * weight[c]);
        }
    }
}
"""

SYNAPSES = {
    "list": _LIST,
    "cut": _CUT,
    "add_rows": _ADD_ROWS,
    "convolve": _whole(_CONVOLVE),
    "convolve_large": _cut(_CONVOLVE),
    "convolve_along": _whole(_CONVOLVE_ALONG),
    "convolve_along_large": _cut(_CONVOLVE_ALONG),
    "depthwise": _DEPTHWISE,
    "scale": _SCALE,
}
"""Kernel name -> text, each after those that it calls."""
