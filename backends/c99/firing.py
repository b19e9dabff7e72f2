"""The C loops of the populations: how each kind of neuron finds its spikes.

The currents of a step were added to the potentials before. Division rounds toward minus infinity, which C's
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

FLOOR_DIVIDE = """
static int32_t floor_divide(int32_t m, int32_t theta)
{
    const int32_t quotient = m / theta;
    return m % theta < 0 ? quotient - 1 : quotient;
}
"""

_FIRE = """
/* $what */
static void $$name(
    const population *p, const int32_t *restrict constant, int32_t times, int32_t timesteps,
    int32_t *restrict v, $$t1 *restrict sent$spikes)
{
    const int32_t *restrict threshold = p->threshold, *restrict bias = p->bias;
    const int32_t pixels = p->pixels, channels = p->channels;
    $prepare
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c, theta = threshold[c];
            int32_t m = v[i], s = 0;
            if (constant) {
                m += times * constant[i];
            }
            if (bias) {
                m += times * bias[c];
            }
            $rule
            v[i] = m - s * theta;
            sent[i] = ($$t1)(sent[i] + s);$store
        }
    }
}
"""

_CAPACITY = "const int32_t capacity = timesteps * p->levels;"
_LIMITED = f"{_CAPACITY}\n    const int32_t limit = p->limit;"
_PLAIN = "const int32_t limit = p->limit;\n    (void)timesteps;"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of population.

    Attributes:
        what: for the comment in C.
        prepare: C text before the loops.
        rule: C text that finds the spikes ``s`` from ``m``.
        whole_run: whether it fires once for all steps, so that the count is all that there is to store.
    """

    what: str
    prepare: str
    rule: str
    whole_run: bool = False

    @property
    def template(self) -> str:
        """The kernel's text, ``$`` standing for its name and types."""
        return Template(_FIRE).substitute(
            what=self.what,
            prepare=self.prepare,
            rule=self.rule,
            spikes="" if self.whole_run else ", $t0 *restrict spikes",
            store="" if self.whole_run else "\n            spikes[i] = ($t0)s;",
        )


RULES = {
    "fire_once": Rule(
        "At most one spike a step, taken back where too many were sent.",
        _CAPACITY,
        "s = m >= theta ? sent[i] < capacity : m < 0 ? -(sent[i] > 0) : 0;",
    ),
    "fire_negative": Rule(
        "As the first, but spikes are only taken back below a threshold of their own.",
        f"{_CAPACITY}\n    const int32_t *restrict low = p->negative_threshold;",
        "s = m >= theta ? sent[i] < capacity : m < -low[c] ? -(sent[i] > 0) : 0;",
    ),
    "fire_twice": Rule(
        "As the first, but up to two spikes a step.",
        _CAPACITY,
        """const int32_t room = capacity - sent[i];
            const int32_t high = room < 2 ? room : 2, low = sent[i] < 2 ? -sent[i] : -2;
            s = (m >= theta) + (m >= 2 * theta) - (m < 0) - (m < -theta);
            s = s < low ? low : s;
            s = s > high ? high : s;""",
    ),
    "fire_several": Rule(
        "Up to limit spikes a step, taken back where too many were sent.",
        _LIMITED,
        """if (m < 0 || m >= theta) {
                const int32_t room = capacity - sent[i];
                const int32_t high = room < limit ? room : limit;
                const int32_t low = sent[i] < limit ? -sent[i] : -limit;
                s = floor_divide(m, theta);
                s = s < low ? low : s;
                s = s > high ? high : s;
            }""",
    ),
    "fire_graded": Rule(
        "As many spikes a step as fit, taken back where too many were sent.",
        _CAPACITY,
        """if (m < 0 || m >= theta) {
                const int32_t high = capacity - sent[i];
                s = floor_divide(m, theta);
                s = s < -sent[i] ? -sent[i] : s;
                s = s > high ? high : s;
            }""",
    ),
    "fire_plain": Rule(
        "Integrate-and-fire without memory: up to limit spikes a step.",
        _PLAIN,
        """if (m >= theta) {
                s = m / theta;
                s = s > limit ? limit : s;
            }""",
    ),
    "fire_after_all": Rule(
        "The whole run at once: all input has arrived.",
        _CAPACITY,
        """if (m >= theta) {
                s = m / theta;
                s = s > capacity ? capacity : s;
            }""",
        whole_run=True,
    ),
}
"""Kernel name -> kind of population."""
