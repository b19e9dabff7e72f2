"""The C loops of leaky populations and read-outs.

The currents of a step were summed before, and reach the potential through the filter. Division truncates in
C, as the definition does (:mod:`snnc.ir.leak`), and the product has 64 bits.
"""

from __future__ import annotations

from snnc.ir.leak import WHOLE

LEAKY_POPULATION = """
/* The constants of a leaky population or read-out; whatever is null is none: a decay keeps all, a filter
   passes all, and a spike takes the threshold. */
typedef struct {
    const int32_t *threshold, *bias, *decay, *synapse_decay, *reset_to, *reset_by;
    int32_t pixels, channels, limit, refractory, finer;
} leaky_population;
"""

KEPT = f"""
/* What remains of a value after a step, rounded toward zero. */
static int32_t kept(int32_t value, const int32_t *decay, int32_t c)
{{
    return decay ? (int32_t)((int64_t)value * decay[c] / {WHOLE}) : value;
}}

/* The current that reaches a potential: what the filter kept, and what arrives. */
static int32_t arriving(
    const leaky_population *p, const int32_t *current, const int32_t *constant, int32_t *filtered, int32_t i,
    int32_t c)
{{
    const int32_t sum = (current[i] + (constant ? constant[i] : 0)) * p->finer;
    if (!filtered) {{
        return sum;
    }}
    filtered[i] = kept(filtered[i], p->synapse_decay, c) + sum;
    return filtered[i];
}}
"""

LEAKY_KERNELS = {
    "fire_leaky": """
/* A potential that leaks, is reset by a spike, and rests after it. */
static void $name(
    const leaky_population *p, const int32_t *restrict constant, const int32_t *restrict current,
    int32_t *restrict v, int32_t *restrict filtered, int16_t *restrict resting, $t1 *restrict sent,
    $t0 *restrict spikes)
{
    const int32_t *restrict threshold = p->threshold, *restrict bias = p->bias;
    const int32_t pixels = p->pixels, channels = p->channels;
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c, arrived = arriving(p, current, constant, filtered, i, c);
            spikes[i] = 0;
            if (resting && resting[i] > 0) {
                resting[i] = (int16_t)(resting[i] - 1);
                continue;
            }
            const int32_t m = kept(v[i], p->decay, c) + arrived + (bias ? bias[c] : 0);
            v[i] = m;
            if (m >= threshold[c]) {
                const int32_t wanted = p->limit > 1 ? m / threshold[c] : 1;
                const int32_t s = wanted < p->limit ? wanted : p->limit;
                v[i] = p->reset_to ? p->reset_to[c] : m - s * (p->reset_by ? p->reset_by : threshold)[c];
                spikes[i] = ($t0)s;
                sent[i] = ($t1)(sent[i] + s);
                if (resting) {
                    resting[i] = (int16_t)p->refractory;
                }
            }
        }
    }
}
""",
    "leaky_readout": """
/* A potential that nothing resets. */
static void leaky_readout(
    const leaky_population *p, const int32_t *restrict constant, const int32_t *restrict current,
    int32_t *restrict filtered, int32_t *restrict y)
{
    const int32_t *restrict bias = p->bias;
    const int32_t pixels = p->pixels, channels = p->channels;
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c, arrived = arriving(p, current, constant, filtered, i, c);
            y[i] = kept(y[i], p->decay, c) + arrived + (bias ? bias[c] : 0);
        }
    }
}
""",
}
