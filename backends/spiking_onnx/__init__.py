"""The network as ONNX, in the forms that different runtimes take."""

from __future__ import annotations

from snnc.backends.spiking_onnx.backend import SpikingOnnx

__all__ = ["SpikingOnnx"]
