"""``network.net``: the HDF5 file that ``lava.lib.dl.netx.hdf5.Network`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snnc.backends.chain import Layer
from snnc.backends.loihi.limits import mantissas
from snnc.errors import UsageError
from snnc.ir.operations import firing
from snnc.ir.snn import IntegrateFire, SnnGraph

FILE = "network.net"
FIRES, ACCUMULATES = "SNNC_IF", "SNNC_READOUT"


def h5py() -> Any:
    """Return the package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import h5py as package
    except ImportError:
        raise UsageError("lava's network files need h5py: python -m pip install h5py") from None
    return package


def write(graph: SnnGraph, layers: tuple[Layer, ...], path: Path) -> None:
    """Write the chain.

    Raises:
        UsageError: h5py is not installed.
    """
    entries: list[dict[str, Any]] = [{"type": "input", "shape": list(graph.encoder.shape)}]
    for layer in layers:
        if layer.window is None and len(layer.shape) > 1:
            entries.append({"type": "flatten"})
        entries.append(_layer(graph, layer))
    with h5py().File(path, "w") as file:
        group = file.create_group("layer")
        for index, entry in enumerate(entries):
            _fill(group.create_group(str(index)), entry)


def _fill(group: Any, entry: dict[str, Any]) -> None:
    """Write a dictionary of texts, numbers, arrays and dictionaries."""
    for name, value in entry.items():
        if isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif isinstance(value, str):
            group.create_dataset(name, data=np.bytes_(value))
        else:
            group.create_dataset(name, data=np.asarray(value, np.int32), track_times=False)


def _layer(graph: SnnGraph, layer: Layer) -> dict[str, Any]:
    """Return the entry of one layer."""
    node, shape = layer.neurons, layer.synapse.shape
    bias = node.bias
    if node.shape != shape:
        bias = bias.reshape(shape).T  # one for each neuron, in lava's order: width, height, channels
    entry: dict[str, Any] = {
        "type": "dense" if layer.window is None else "conv",
        "shape": list(shape),
        "weight": layer.weight,
        "bias": bias,
        "neuron": _neuron(graph, node),
    }
    if layer.window is not None:
        entry |= {
            "stride": list(layer.window.strides),
            "padding": list(layer.window.pads[:2]),
            "dilation": [1, 1],
            "groups": layer.groups,
        }
    return entry


def _neuron(graph: SnnGraph, node: Any) -> dict[str, Any]:
    """Return the entry of a population or a read-out."""
    entry: dict[str, Any] = {"timesteps": graph.timesteps, "settleSteps": graph.settle_steps}
    if not isinstance(node, IntegrateFire):
        silent = {
            "vThMant": 1,
            "vThExp": 0,
            "vInit": 0,
            "messageBits": 0,
            "levels": 1,
            "limit": 0,
            "memory": 0,
        }
        return {"type": ACCUMULATES, **entry, **silent}
    mantissa, exponent = mantissas(node.threshold.astype(np.int64))
    largest, remembers = node.neuron.largest(graph.timesteps), firing(node).remembers
    entry |= {
        "vThMant": mantissa,
        "vThExp": exponent,
        "vInit": node.v_init,
        "messageBits": largest.bit_length() + remembers,
        "levels": node.neuron.levels,
        "limit": largest,
        "memory": int(remembers),
    }
    if node.negative_threshold is not None:
        entry["vThNegative"] = node.negative_threshold
    return {"type": FIRES, **entry}
