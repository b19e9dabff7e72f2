"""A network as a module of PyTorch with the artefact's exact semantics, whole or step by step.

Integers are carried in float64, in which every sum of the proved ones is exact, whatever the device, the
algorithm and the order. torch is imported when a module is asked for.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from snnc.errors import UsageError

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.backends.torch_module.module import SpikingModule
    from snnc.backends.torch_module.spikingjelly_module import SpikingJellyModule


def to_torch(artefact: Artefact) -> SpikingModule:
    """Return an artefact as a ``torch.nn.Module``.

    Args:
        artefact: the network.

    Raises:
        UsageError: torch is not installed, or a part of the network runs as ordinary ONNX.
        UnknownOperationError: it holds a node or a setting that this version of snnc does not know.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("a module of PyTorch needs torch, which is not installed: pip install torch")
    from snnc.backends.torch_module.module import SpikingModule

    return SpikingModule(artefact)


def to_spikingjelly(artefact: Artefact, step_mode: str = "s") -> SpikingJellyModule:
    """Return an artefact in the shape of SpikingJelly's modules; see :class:`SpikingJellyModule`.

    Args:
        artefact: the network.
        step_mode: ``s`` for one step a call, ``m`` for T.

    Raises:
        UsageError: spikingjelly is not installed, or the network has no answer in each step.
    """
    if importlib.util.find_spec("spikingjelly") is None:
        raise UsageError("this needs spikingjelly, which is not installed: pip install spikingjelly")
    from snnc.backends.torch_module.spikingjelly_module import SpikingJellyModule

    return SpikingJellyModule(artefact, step_mode)
