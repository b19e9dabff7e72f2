"""Compile a trained network into a spiking network, simulate it, and say where accuracy was lost.

Example::

    import snnc

    network = snnc.convert("network.onnx", calibration)
    print(network.evaluate(images, labels).scores.top1)

The public names are imported when they are first asked for, so that ``import snnc`` costs next to
nothing: it loads none of numpy, onnx, onnxruntime and numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snnc.compiler import simulate
    from snnc.network import compile_model, convert, load, to_torch
    from snnc.training.train import train
    from snnc.training.tuning import tune

__version__ = "0.1.0"
__all__ = ["compile_model", "convert", "load", "simulate", "to_torch", "train", "tune", "__version__"]

_HOME = {
    "compile_model": "snnc.network",
    "convert": "snnc.network",
    "load": "snnc.network",
    "simulate": "snnc.compiler",
    "to_torch": "snnc.network",
    "train": "snnc.training.train",
    "tune": "snnc.training.tuning",
}


def __getattr__(name: str) -> object:
    """Import the module that defines the public name ``name`` and keep the name here."""
    if name not in _HOME:
        raise AttributeError(f"module 'snnc' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
