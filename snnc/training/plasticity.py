"""Local learning between gradients: a reconstruction of EICIL's cycles of excitation and inhibition.

Epochs of three kinds alternate with a period of six: gradient, gradient, local, gradient, gradient, both.
The local phase, which stands for excitation, changes the weights of convolutions and dense layers by
pair-based STDP on the spikes of a run; with the traces ``p_t = (1 - 1/2) p_{t-1} + pre_t`` and ``q_t = (1 -
1/100) q_{t-1} + post_t``, of the weight ``w`` over the largest of its layer,

    dw = mean_t w (p_t post_t - q_t pre_t)        w in [-1, 1]

The equations of the paper are known here at second hand only, so this is a reconstruction, and what it earns
is to be
measured: `python -m benchmarks.learning`. Source: Shi et al., "EICIL: Joint Excitatory Inhibitory Cycle
Iteration Learning for Deep Spiking Neural Networks", NeurIPS 2023.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from snnc.ir import snn
from snnc.training.operators import padded

PHASES = ("gradient", "gradient", "local", "gradient", "gradient", "both")
"""What each epoch of a cycle learns by."""

TAU_PRE, TAU_POST = 2.0, 100.0

LOCAL_RATE = 1e-2
"""Share of ``dw`` that one batch adds, at the largest rate."""


def by_gradient(epoch: int) -> bool:
    """Whether an epoch learns by gradients."""
    return PHASES[epoch % len(PHASES)] != "local"


def locally(epoch: int) -> bool:
    """Whether an epoch learns by local rules."""
    return PHASES[epoch % len(PHASES)] != "gradient"


def traces(spikes: Tensor, tau: float) -> Tensor:
    """Return the trace after every step of spikes, (T, ...)."""
    found, now = [], torch.zeros_like(spikes[0])
    for step in spikes:
        now = now * (1 - 1 / tau) + step
        found.append(now)
    return torch.stack(found)


def change(node: snn.Convolution | snn.Linear, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """Return what the spikes of a run change.

    Args:
        node: the synapse.
        weight: of it, over the largest of the layer, in [-1, 1].
        pre: (T, batch, *shape) spikes that it reads.
        post: (T, batch, *shape) spikes of the neurons behind it.

    Returns:
        ``dw``, of the shape of the weight, the mean over steps, rows and places.
    """
    potentiated = _paired(node, weight, traces(pre, TAU_PRE), post)
    depressed = _paired(node, weight, pre, traces(post, TAU_POST))
    places = post[0, 0, 0].numel()
    return weight * (potentiated - depressed) / (post.shape[0] * post.shape[1] * places)


def _paired(node: snn.Convolution | snn.Linear, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """Return the sum over steps, rows and places of what meets at each synapse."""
    before, after = pre.flatten(0, 1), post.flatten(0, 1)
    if isinstance(node, snn.Linear):
        return after.T @ before
    window = node.window
    given = padded(before, window)
    # A stride may leave a border unread, of which the gradient would ask for more places.
    sizes = [
        (count - 1) * stride + (kernel - 1) * dilation + 1
        for count, stride, kernel, dilation in zip(
            after.shape[2:], window.strides, window.kernel, window.dilations, strict=True
        )
    ]
    given = given[:, :, : sizes[0], : sizes[1]].contiguous()
    found: Tensor = conv2d_weight(
        given,
        weight.shape,
        after.contiguous(),
        stride=window.strides,
        dilation=window.dilations,
        groups=node.groups,
    )
    return found
