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
