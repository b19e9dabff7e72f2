"""Weights most of which are zero as lists: what a spike of a channel adds, and to which neurons.

Where the lists take at most half of the memory of the whole weight, they stand in its place. A spike then
costs one addition for each synapse that there is, one after the other; whole weights are added in rows, of
which vector registers take many at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.backends.c99.widths import Width
from snnc.ir.graph import NumberArray

LARGEST_SHARE = 0.5
"""Of the memory of the whole weight, up to which lists are taken."""

FAN_OUT = """
/* A convolution whose synapses are listed: those of a channel at a place of the kernel from first[k] to
   first[k + 1], each with the channel that it reaches. */
static void fan_out_${n0}_${n1}_${n2}_${n3}_$n4(
    const $t0 *restrict spikes, const $t1 *restrict weight, const $t2 *restrict first,
    const $t3 *restrict target, const window *g, $t4 *restrict current)
{
    const int32_t apart = g->kernel_height * g->kernel_width;
    for (int32_t y = 0; y < g->in_height; y++) {
        for (int32_t x = 0; x < g->in_width; x++) {
            for (int32_t group = 0; group < g->groups; group++) {
                for (int32_t c = 0; c < g->in_size; c++) {
                    const int32_t s = *spikes++;
                    for (int32_t ky = 0; s != 0 && ky < g->kernel_height; ky++) {
                        const int32_t down = reached(
                            y, ky, g->dilation_down, g->stride_down, g->top, g->out_height);
                        for (int32_t kx = 0; down >= 0 && kx < g->kernel_width; kx++) {
                            const int32_t right = reached(
                                x, kx, g->dilation_right, g->stride_right, g->left, g->out_width);
                            const int32_t place = ky * g->kernel_width + kx;
                            const $t2 *const k = first + (group * g->in_size + c) * apart + place;
                            if (right >= 0) {
                                const int32_t pixel = down * g->out_width + right;
                                $t4 *const out = current + (pixel * g->groups + group) * g->out_size;
                                for (int32_t i = k[0]; i < k[1]; i++) {
                                    out[target[i]] = ($t4)(out[target[i]] + s * weight[i]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
"""


@dataclass(frozen=True, slots=True, eq=False)
class FanOut:
    """The synapses of a weight, listed.

    Attributes:
        first: (channels * places + 1,), where the synapses of each channel and place of the kernel begin.
        target: (synapses,), the channel of its group that each reaches.
        weight: (synapses,).
    """

    first: NumberArray
    target: NumberArray
    weight: NumberArray

    @property
    def bytes(self) -> int:
        """What they take in the narrowest types."""
        return sum(Width.of(each).value * each.size for each in (self.first, self.target, self.weight))


def fan_out(weight: NumberArray, groups: int) -> FanOut | None:
    """Return the lists of a weight, (outputs, inputs per group, height, width); ``None`` if too long."""
    outputs, inputs, height, width = weight.shape
    shaped = weight.reshape(groups, outputs // groups, inputs, height, width).transpose(0, 2, 3, 4, 1)
    rows = shaped.reshape(groups * inputs * height * width, outputs // groups)
    row, target = np.nonzero(rows)
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
    found = FanOut(first, target, rows[row, target])
    return found if found.bytes <= LARGEST_SHARE * Width.of(weight).value * weight.size else None
