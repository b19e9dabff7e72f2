"""The C loops of the populations: how each kind of neuron finds its spikes.

The currents of a step were added to the potentials before. Where a step has at most two spikes, comparisons
find them. Where it may have more, ``floor(m / theta)`` is found by parts: the most thresholds that may fit
are a rest and powers of two, and each of these that still fits is taken. That rounds toward minus infinity,
and compilers put it into vector registers, which have no division.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from textwrap import indent

_FIRE = """
/* $what */
static void $$name(
    const population *p, const int32_t *restrict constant, int32_t times, int32_t timesteps,
    $$t2 *restrict v, $$t1 *restrict sent$spikes)
{
    const int32_t *restrict threshold = p->threshold, *restrict bias = p->bias;
    const int32_t pixels = p->pixels, channels = p->channels;
    $prepare
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c, theta = threshold[c];
            int32_t m = v[i], s = 0;
            if (constant$on) {
                m += ${times}constant[i];
            }
            if (bias$on) {
                m += ${times}bias[c];
            }
            $rule
            v[i] = ($$t2)(m - s * theta);
            sent[i] = ($$t1)(sent[i] + s);$store
        }
    }
}
"""

_FIRE_BY_PARTS = """
/* $what */
static void $$name(
    const population *p, const int32_t *restrict constant, int32_t times, int32_t timesteps,
    $$t2 *restrict v, $$t1 *restrict sent, $$t0 *restrict spikes)
{
    const int32_t *restrict threshold = p->threshold, *restrict bias = p->bias;
    const int32_t pixels = p->pixels, channels = p->channels;
    $prepare
    int32_t bits = 0;
    while ((most + 1) >> (bits + 1)) {
        bits++;
    }
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        /* Add back all spikes that may be retracted; the count then lies between 0 and most. */
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c, back = $back, part = most - ((int32_t)1 << bits) + 1;
            const int32_t multiple = part * threshold[c];
            int32_t m = v[i];
            if (constant && times) {
                m += constant[i];
            }
            if (bias && times) {
                m += bias[c];
            }
            v[i] = ($$t2)(m + back * threshold[c]);
            spikes[i] = ($$t0)-back;$take
        }
        /* A part is at most one more than all after it, so that they make up every number. */
        for (int32_t bit = bits - 1; bit >= 0; bit--) {
            const int32_t part = (int32_t)1 << bit;
            for (int32_t c = 0; c < channels; c++) {
                const int32_t i = first + c, multiple = threshold[c] << bit;$take_bit
            }
        }
        for (int32_t i = first; i < first + channels; i++) {
            sent[i] = ($$t1)(sent[i] + spikes[i]);
        }
    }
}
"""

_TAKE = """
const int32_t fits = $fits;
v[i] = ($t2)(v[i] - (fits ? multiple : 0));
spikes[i] = ($t0)(spikes[i] + (fits ? part : 0));"""

_CAPACITY = "const int32_t capacity = timesteps * p->levels;"
_MOST = "const int32_t most = timesteps * p->levels;"
_LIMITED = f"""{_CAPACITY}
    const int32_t limit = p->limit, most = 2 * limit < capacity ? 2 * limit : capacity;"""
_PLAIN = "const int32_t most = p->limit;\n    (void)timesteps;"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of population whose spikes comparisons find.

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
            on="" if self.whole_run else " && times",
            times="times * " if self.whole_run else "",
            spikes="" if self.whole_run else ", $t0 *restrict spikes",
            store="" if self.whole_run else "\n            spikes[i] = ($t0)s;",
        )


@dataclass(frozen=True, slots=True)
class PartsRule:
    """A kind of population whose spikes are found by parts.

    No product overflows: a part is at most the largest spike, and ``m + back theta`` is at most all that the
    neuron has received.

    Attributes:
        what: for the comment in C.
        prepare: C text before the loops; ``most`` is how far the spikes of a neuron may lie apart in a step.
        back: C expression, how many spikes may be taken back.
        fits: C expression, whether a part fits.
    """

    what: str
    prepare: str
    back: str
    fits: str = "v[i] >= multiple"

    @property
    def template(self) -> str:
        """The kernel's text, ``$`` standing for its name and types."""
        take = _TAKE.replace("$fits", self.fits)
        return Template(_FIRE_BY_PARTS).substitute(
            what=self.what,
            prepare=self.prepare,
            back=self.back,
            take=indent(take, 12 * " "),
            take_bit=indent(take, 16 * " "),
        )


STEP_POPULATION = """
/* The constants of a population whose count follows a step function: its channels have breakpoints that lie
   apart from each other, 0 where all have the same. */
typedef struct {
    const int32_t *points, *bias, *values;
    int32_t pixels, channels, limit, breakpoints, apart;
} step_population;
"""

_SEARCHED = """
/* $what */
static void $$name(
    const step_population *p, const int32_t *restrict constant, int32_t times, int32_t timesteps,
    $$t2 *restrict v, $$t1 *restrict sent$spikes)
{
    const int32_t *restrict points = p->points, *restrict bias = p->bias, *restrict values = p->values;
    const int32_t pixels = p->pixels, channels = p->channels, n = p->breakpoints;
    $prepare
    for (int32_t first = 0; first < pixels * channels; first += channels) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t i = first + c;
            const int32_t *restrict own = points + c * p->apart;
            int32_t m = v[i], low = 0, high = n, s;
            if (constant$on) {
                m += ${times}constant[i];
            }
            if (bias$on) {
                m += ${times}bias[c];
            }
            while (low < high) {
                const int32_t middle = (low + high) / 2;
                if (own[middle] <= m) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            s = values[low] - sent[i];
            $limit
            v[i] = ($$t2)m;
            sent[i] = ($$t1)(sent[i] + s);$store
        }
    }
}
"""


@dataclass(frozen=True, slots=True)
class SearchedRule:
    """A kind of population whose count follows a step function, found by binary search.

    Attributes:
        what: for the comment in C.
        whole_run: whether it fires once for all steps.
    """

    what: str
    whole_run: bool = False

    @property
    def template(self) -> str:
        """The kernel's text, ``$`` standing for its name and types."""
        return Template(_SEARCHED).substitute(
            what=self.what,
            prepare="(void)timesteps;"
            if self.whole_run
            else "const int32_t limit = p->limit;\n    (void)timesteps;",
            on="" if self.whole_run else " && times",
            times="times * " if self.whole_run else "",
            limit="" if self.whole_run else "s = s > limit ? limit : s < -limit ? -limit : s;",
            spikes="" if self.whole_run else ", $t0 *restrict spikes",
            store="" if self.whole_run else "\n            spikes[i] = ($t0)s;",
        )


RULES: dict[str, Rule | PartsRule | SearchedRule] = {
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
    "fire_several": PartsRule(
        "Up to limit spikes a step, taken back where too many were sent.",
        _LIMITED,
        "sent[i] < limit ? sent[i] : limit",
        "(v[i] >= multiple) & (spikes[i] + part <= limit) & (sent[i] + spikes[i] + part <= capacity)",
    ),
    "fire_graded": PartsRule(
        "As many spikes a step as fit, taken back where too many were sent.", _MOST, "sent[i]"
    ),
    "fire_plain": PartsRule("Integrate-and-fire without memory: up to limit spikes a step.", _PLAIN, "0"),
    "fire_after_all": Rule(
        "The whole run at once: all input has arrived.",
        _CAPACITY,
        """if (m >= theta) {
                s = m / theta;
                s = s > capacity ? capacity : s;
            }""",
        whole_run=True,
    ),
    "fire_steps": SearchedRule("The change of a step function of all that was received."),
    "fire_steps_after_all": SearchedRule("The same for the whole run at once.", whole_run=True),
}
"""Kernel name -> kind of population."""
