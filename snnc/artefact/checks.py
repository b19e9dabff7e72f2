"""Checks of a file besides its hash, which anyone can renew: no statement of the file is trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import numpy as np

from snnc.artefact.metadata import Json, Metadata
from snnc.data.preprocessing import Preprocessing
from snnc.ir.bounds import overflow
from snnc.ir.graph import NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.operations import operations
from snnc.ir.segments import split
from snnc.ir.snn import ConstantCurrent, Encode, IntegrateFire, Readout, SnnGraph, SnnNode, Weighted
from snnc.source.host import Host
from snnc.source.selection import Selection

MOST_FILLED = 2**30
"""Most values of a tensor that is filled up to a fixed batch: a file must not ask for all of the memory."""


def check_numbers(graph: SnnGraph) -> None:
    """Check the types of all arrays, and that their values are finite.

    Raises:
        ValueError: naming a node with others.
    """
    whole = graph.integer
    weights, potentials = (("int8", "int16"), ("int32",)) if whole else (("float32",), ("float32",))
    for node in operations(graph):
        expected = weights if isinstance(node, Weighted) else potentials
        found = [(array, expected) for array in _arrays(node)]
        found += [(array, ("float32",)) for array in _reals(node)]
        for array, types in found:
            if array.dtype not in types:
                raise ValueError(f"{node.name!r} holds {array.dtype}, not {' or '.join(types)}")
            if not np.isfinite(array).all():
                raise ValueError(f"{node.name!r} holds NaN or infinity")
        if isinstance(node, Readout) and not math.isfinite(node.scale):
            raise ValueError(f"{node.name!r} has the scale {node.scale}")


def check_bounds(graph: SnnGraph) -> None:
    """Prove again that no integer overflows in as many steps as the network states.

    Raises:
        ValueError: naming a node whose integers could, or where no number of steps is stated.
    """
    if not graph.integer:
        return
    longest = graph.max_timesteps
    if longest < 1:
        raise ValueError("the bounds of its integers were not proved")
    found = overflow(graph, longest)
    if found is not None:
        raise ValueError(str(found))


def check_input(graph: SnnGraph, metadata: Metadata) -> None:
    """Check that rows can be brought into the form that the network takes.

    Raises:
        InputError: preprocessing or layout are not of their form.
        ValueError: the layout gives other rows than the network takes.
    """
    if metadata.preprocessing is not None:
        Preprocessing.stored(metadata.preprocessing)
    Selection.from_dict(metadata.selection)
    if metadata.input_layout is not None and len(graph.inputs) > 1:
        raise ValueError("it tells one layout of several inputs")
    if metadata.input_layout is not None:
        _require_layout(InputLayout.from_dict(metadata.input_layout), graph.encoder)
    if metadata.inputs:
        _require_names(metadata.inputs, [node.name for node in graph.inputs], "inputs")
        for stored, node in zip(metadata.inputs, graph.inputs, strict=True):
            _require_layout(InputLayout.from_dict(stored["layout"]), node)
    if metadata.outputs:
        _require_names(metadata.outputs, graph.output_names, "outputs")
        for stored, readout in zip(metadata.outputs, graph.readouts.values(), strict=True):
            layout = InputLayout.from_dict(stored["layout"])
            if prod(layout.shape) != prod(readout.shape):
                raise ValueError(f"the layout of {stored['name']!r} does not fit {readout.shape}")


def check_host(graph: SnnGraph, metadata: Metadata, host: Host) -> None:
    """Check that the host's sections and the network fit together.

    Raises:
        ValueError, VerificationError: saying what does not.
    """
    layouts = {entry["name"]: InputLayout.from_dict(entry["layout"]) for entry in metadata.inputs}
    layouts |= {entry["name"]: InputLayout.from_dict(entry["layout"]) for entry in metadata.outputs}
    names = [node.name for node in graph.inputs], list(graph.output_names)
    for ports, wanted, what in zip((host.entries, host.exits), names, ("entries", "exits"), strict=True):
        if [port.name for port in ports] != wanted:
            raise ValueError(f"the {what} of the host are not {wanted}")
        for port in ports:
            if port.name not in layouts or layouts[port.name].source_shape != port.shape:
                raise ValueError(f"the layout of {port.name!r} does not fit what the host says of it")
    known = {port.name for port in host.inputs}
    segments = (graph,) if not host.islands else split(graph, host.segments)
    for number, (what, section) in enumerate(host.sections.items()):
        if section is not None:
            if not set(section.inputs) <= known or not section.inputs:
                raise ValueError(f"the {what} reads what nothing makes")
            known |= set(section.outputs)
        if number < len(segments):
            missing = {node.name for node in segments[number].inputs} - known
            if missing:
                raise ValueError(f"nothing makes {min(missing)!r} before the network")
            known |= set(segments[number].output_names)
    if not {port.name for port in host.outputs} <= known or not host.inputs or not host.outputs:
        raise ValueError("nothing makes an output of the host")
    if host.batch is not None and host.batch < 1:
        raise ValueError(f"the batch {host.batch} is none")
    largest = max(prod(port.shape) for port in (*host.inputs, *host.outputs, *host.entries, *host.exits))
    if (host.batch or 1) * largest > MOST_FILLED:
        raise ValueError(f"a batch of {host.batch} would have more than {MOST_FILLED} values")
    if not 0 <= host.host_macs <= host.macs or any(node.macs < 0 for node in host.nodes):
        raise ValueError("the multiply-accumulates of the host are no share of all")


def _require_layout(layout: InputLayout, node: SnnNode) -> None:
    if layout.shape != node.shape:
        raise ValueError(f"its layout gives rows of {layout.shape}, and {node.name!r} takes {node.shape}")


def _require_names(stored: Sequence[Json], names: Sequence[str], what: str) -> None:
    found = [entry["name"] for entry in stored]
    if found != list(names):
        raise ValueError(f"it tells of the {what} {found}, and the network has {list(names)}")


def _arrays(node: SnnNode) -> list[NumberArray]:
    """Return the arrays of a node that are quantised with the network."""
    match node:
        case Weighted():
            return [node.weight]
        case ConstantCurrent():
            return [node.values]
        case IntegrateFire():
            optional = (node.negative_threshold, node.breakpoints, node.step_values, *_leak(node))
            return [node.threshold, node.bias, node.v_init, *(v for v in optional if v is not None)]
        case Readout():
            return [node.bias, *(values for values in _leak(node) if values is not None)]
        case _:
            return []


def _leak(node: IntegrateFire | Readout) -> tuple[NumberArray | None, ...]:
    resets = (node.reset_to, node.reset_by) if isinstance(node, IntegrateFire) else ()
    return (node.decay, node.synapse_decay, *resets)


def _reals(node: SnnNode) -> list[NumberArray]:
    """Return the arrays of a node that are never quantised."""
    match node:
        case Encode(gain=gain, offset=offset) if gain is not None and offset is not None:
            return [gain, offset]
        case Readout(gain=gain) if gain is not None:
            return [gain]
        case IntegrateFire():
            potential = (node.potential_unit, node.potential_zero)
            return [node.spike_scale, node.lowest, *(values for values in potential if values is not None)]
        case _:
            return []
