"""The artefact: a converted network in one file, ``NAME.snn.onnx``, that any ONNX runtime runs.

The file is an ONNX model. Spiking neurons and synapses are local functions, time is a loop, and the
network that snnc works on is read back from the calls of these functions: there is no second copy.
The model's metadata hold everything else, including a SHA-256 of the whole content. The hash detects damage
and accidental changes; it is no signature.
"""

from __future__ import annotations

from snnc.artefact.artefact import Artefact
from snnc.artefact.file import load, save
from snnc.artefact.metadata import SCHEMA_VERSION, Metadata

__all__ = ["Artefact", "Metadata", "SCHEMA_VERSION", "load", "save"]
