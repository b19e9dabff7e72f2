"""Compile a trained ONNX network into a spiking network, and simulate it.

Example::

    import snnc

    artefact = snnc.compile_model("network.onnx", calibration, timesteps=8)
    trace = snnc.simulate(artefact, images, backend="numba")

The public names are imported when they are first asked for, so that ``import snnc`` costs next to
nothing: it loads none of numpy, onnx, onnxruntime and numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snnc.artefact import load
    from snnc.compiler import compile_model, simulate
    from snnc.training.tuning import tune

__version__ = "0.1.0"
__all__ = ["compile_model", "load", "simulate", "tune", "__version__"]

_HOME = {
    "compile_model": "snnc.compiler",
    "load": "snnc.artefact",
    "simulate": "snnc.compiler",
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
