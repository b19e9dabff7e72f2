"""Networks over time as NIR graphs: each population becomes the neuron that its consumer runs alike.

The inverse of :mod:`snnc.frontend.nir`: weights stay what they are, potentials are written in units of a
current, and time constants are those whose step, by the consumer's convention, has the decay of the
population.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.nir.file import WITHOUT_RESET, write_graph
from snnc.backends.nir.profiles import Profile
from snnc.errors import ArtefactError, InputError, InternalError, TargetError, UnsupportedModelError
from snnc.frontend.nir import PROFILES, Convention, Discretisation, Reset, lowered, read_nir
from snnc.frontend.nir.neurons import SEVERAL
from snnc.ir.batch import rows_of
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, IntArray, NumberArray, Shape
from snnc.ir.leak import WHOLE
from snnc.ir.operations import KINDS, Firing, firing
from snnc.ir.rewriter import Names
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    Delay,
    Encode,
    IntegrateFire,
    Linear,
    Presented,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.targets import (
    Emission,
    Golden,
    Unsupported,
    VerificationResult,
    several_inputs_or_outputs,
    unknown_operations,
)

Numbers = NDArray[np.float64]
Fields = dict[str, Any]

CLOSE = 2e-3
"""How far what a spike takes may lie from what the consumer's spikes take: integers round it."""

ELSEWHERE = "use the target c99 or spiking-onnx"


def problems(graph: SnnGraph, profile: Profile) -> tuple[Unsupported, ...]:
    """Return what has no word in NIR, or another meaning in the consumer, node by node."""
    if len(graph.inputs) > 1 or len(graph.outputs) > 1:
        return several_inputs_or_outputs(graph)
    if found := unknown_operations(graph, KINDS, tuple(Firing), over_time=True):
        return found
    convention = convention_of(graph, profile)
    return tuple(
        Unsupported(node.name, node.origin, reason, cure)
        for node in graph
        for reason, cure in _against(graph, node, profile, convention)
    )


def convention_of(graph: SnnGraph, profile: Profile) -> Convention:
    """Return how the consumer runs a network; what its files leave open is as the first population has it."""
    found = PROFILES[profile.name]
    if found.reset is not None:
        return found
    first = next(iter(graph.of_type(IntegrateFire)), None)
    to_value = first is not None and first.reset_to is not None
    return replace(found, reset=Reset.VALUE if to_value else Reset.SUBTRACT)


def _against(
    graph: SnnGraph, node: SnnNode, profile: Profile, convention: Convention
) -> Iterator[tuple[str, str]]:
    match node:
        case Encode():
            if node.presented is not Presented.SEQUENCE or node.gain is not None:
                yield "the input is no sequence of frames that enter as they are", ELSEWHERE
        case Convolution() | Linear() | ChannelWeight() | SumPool() | Delay():
            window = getattr(node, "window", None)
            if window is not None and window.pads[:2] != window.pads[2:]:
                yield "its padding differs from side to side, and NIR has one for both", ELSEWHERE
        case Reshape():
            if len(node.shape) > 1 and not _is_signal(graph, node):
                yield "NIR only flattens", ELSEWHERE
        case IntegrateFire():
            yield from _population_problems(graph, node, profile, convention)
        case Readout():
            if node.bias.any() and _biased(graph, node) is None:
                yield "its bias has no layer in front of it that could hold it", ELSEWHERE
            if node.synapse_decay is not None:
                yield "NIR files have no read-out with a synaptic filter", ELSEWHERE
        case _:
            yield f"NIR has no {type(node).__name__} over time", ELSEWHERE


def _population_problems(
    graph: SnnGraph, node: IntegrateFire, profile: Profile, convention: Convention
) -> Iterator[tuple[str, str]]:
    other = "choose the profile whose neurons do the same, or the target c99"
    who = profile.name
    if firing(node) not in (Firing.LEAKY, Firing.PLAIN):
        yield f"neurons of {who} do not fire by {firing(node).value!r}", other
        return
    if node.v_init.any():
        yield f"potentials of {who} start at zero", other
    limit = node.neuron.limit or 0
    if (limit < SEVERAL) if convention.several else (limit != 1):
        most = "as many spikes a step as its potential holds" if convention.several else "one spike a step"
        yield f"a neuron of {who} sends {most}, not {limit}", other
    loses = node.synapse_decay is not None or _hears_itself(graph, node)
    rest = int(convention.delayed and loses and node.reset_to is not None)
    if node.refractory != rest:
        yield f"neurons of {who} do not rest for {node.refractory} steps", other
    if node.synapse_decay is not None and (not convention.filtered or node.bias.any()):
        yield f"neurons of {who} have no such synaptic filter, or no bias behind it", other
    elif node.bias.any() and _biased(graph, node) is None:
        yield "its bias has no layer in front of it that could hold it", ELSEWHERE
    if node.reset_to is not None:
        if convention.reset is Reset.SUBTRACT or (convention.delayed and node.reset_to.any()):
            yield f"a spike does not set the potential of {who}'s neurons to a value", other
        return
    if convention.reset is Reset.VALUE:
        yield f"a spike sets the potential of {who}'s neurons, and takes nothing from it", other
        return
    threshold = node.threshold.astype(np.float64)
    wanted = threshold / _decay(node.decay, node.channels) if convention.delayed else threshold
    taken = threshold if node.reset_by is None else node.reset_by
    if np.any(np.abs(taken - wanted) > CLOSE * wanted):
        yield f"a spike of {who}'s neurons takes another amount from the potential", other


def _hears_itself(graph: SnnGraph, node: IntegrateFire) -> bool:
    """Whether a recurrent connection brings the spikes of a population back."""
    delays = {each.name for each in graph.of_type(Delay) if each.source == node.name}
    return not delays.isdisjoint(graph.ancestors(node.inputs, within_step=True))


def _decay(decay: NumberArray | None, channels: int) -> Numbers:
    """Return decays as numbers, (channels,); 1 where there are none."""
    if decay is None:
        return np.ones(channels)
    return decay.astype(np.float64) / (WHOLE if decay.dtype.kind == "i" else 1)


def _biased(graph: SnnGraph, node: IntegrateFire | Readout) -> Weighted | None:
    """Return the layer in front of a node that can hold its bias."""
    for name in node.inputs:
        layer = graph[name]
        if isinstance(layer, Linear | Convolution) and graph.read_once(name):
            return layer
    return None


def _is_signal(graph: SnnGraph, node: Reshape) -> bool:
    """Whether a signal, (channels, length), is seen as an image of height 1."""
    channels, *sides = graph[node.inputs[0]].shape
    return len(sides) == 1 and node.shape == (channels, 1, sides[0])


def differences(graph: SnnGraph, profile: Profile) -> tuple[str, ...]:
    """Say how the consumer's neurons differ from a network that :func:`problems` lets pass."""
    if not graph.integer:
        return ()
    return ("potentials and decays are float32, where the artefact's are integers",)


def write_network(graph: SnnGraph, profile: Profile, path: Path) -> int:
    """Write a network over time as a NIR file, and return the number of its nodes.

    Args:
        graph: in integers, or in float32, without :func:`problems`.
        profile: who reads the file.
        path: of it.

    Raises:
        TargetError: the network does not fit; naming the first node and reason.
        UsageError: h5py is not installed.
    """
    if found := problems(graph, profile):
        raise TargetError(f"{found[0].node}: {found[0].reason}; {found[0].help}")
    return _Writer(graph, profile, convention_of(graph, profile)).write(path)


class _Writer:
    def __init__(self, graph: SnnGraph, profile: Profile, convention: Convention) -> None:
        self._graph, self._profile, self._convention = graph, profile, convention
        self._names = Names()
        self._called: dict[str, str] = {}
        self._nodes: dict[str, Fields] = {}
        self._edges: list[tuple[str, str]] = []
        self._bias: dict[str, Numbers] = {}
        self._signal = len(graph.encoder.shape) == 2

    def write(self, path: Path) -> int:
        for node in self._graph:
            # A slash would make a group inside, and an output takes a node of its own.
            self._called[node.name] = self._names.fresh(node.name.replace("/", "_"))
        order = {node.name: place for place, node in enumerate(self._graph)}
        for node in self._graph:
            if isinstance(node, IntegrateFire | Readout) and node.bias.any():
                self._keep_bias(node)
        for node in self._graph:
            loops = isinstance(node, Delay) and node.steps == 1 and order[node.source] > order[node.name]
            passes = isinstance(node, Reshape) and _is_signal(self._graph, node)
            if loops or passes:  # a recurrent connection is the edge itself
                self._called[node.name] = self._called[(*node.inputs, *node.earlier)[0]]
        for node in self._graph:
            self._put(node)
        write_graph(path, self._profile.reads, self._nodes, self._edges)
        return len(self._nodes)

    def _keep_bias(self, node: IntegrateFire | Readout) -> None:
        layer = _biased(self._graph, node)
        if layer is not None:
            self._bias[layer.name] = node.bias.astype(np.float64) / 2.0**node.fraction_bits

    def _put(self, node: SnnNode) -> None:
        name = self._called[node.name]
        if name in self._nodes or (isinstance(node, Reshape | Delay) and not self._is_own(node)):
            return
        if isinstance(node, Readout):
            last = self._names.fresh(f"{name}.out")
            if node.leaky:
                self._nodes[name] = self._neuron(node)
                self._edges.append((name, last))
            self._nodes[last] = {"type": "Output", "shape": np.array(self._shape(node.shape))}
            target = name if node.leaky else last
        else:
            self._nodes[name], target = self._fields(node), name
        self._edges += [(self._called[read], target) for read in (*node.inputs, *node.earlier)]

    def _is_own(self, node: SnnNode) -> bool:
        """Whether a node is one of the file, and no other name of what it reads."""
        return self._called[node.name] != self._called[(*node.inputs, *node.earlier)[0]]

    def _shape(self, shape: Shape) -> Shape:
        return (shape[0], shape[2]) if self._signal and len(shape) == 3 else shape

    def _spread(self, values: NumberArray, shape: Shape) -> FloatArray:
        """Return one number per channel for each neuron, float32."""
        whole = np.broadcast_to(per_channel(values, len(shape)), shape).reshape(self._shape(shape))
        return np.ascontiguousarray(whole, np.float32)

    def _fields(self, node: SnnNode) -> Fields:
        match node:
            case Encode():
                return {"type": "Input", "shape": np.array(node.shape)}
            case Linear() | Convolution():
                return self._layer(node)
            case ChannelWeight():
                return {"type": "Scale", "scale": self._spread(node.weight, node.shape)}
            case SumPool():
                window = node.window
                sizes = {"kernel_size": window.kernel, "stride": window.strides, "padding": window.pads[:2]}
                return {"type": "SumPool2d", **{key: np.array(value) for key, value in sizes.items()}}
            case Reshape():
                before = self._shape(self._graph[node.inputs[0]].shape)
                return {"type": "Flatten", "input_type": np.array(before), "start_dim": 0, "end_dim": -1}
            case Delay():
                steps = np.full(node.channels, node.steps * self._convention.dt)
                return {"type": "Delay", "delay": self._spread(steps, node.shape)}
            case IntegrateFire():
                return self._neuron(node)
            case _:
                raise InternalError(f"{node.name!r} has no form in NIR, which `problems` tells")

    def _layer(self, node: Linear | Convolution) -> Fields:
        weight = node.weight.astype(np.float32)
        bias = self._bias.get(node.name)
        if isinstance(node, Linear):
            if bias is None:
                return {"type": "Linear", "weight": weight}
            return {"type": "Affine", "weight": weight, "bias": bias.astype(np.float32)}
        whole = (np.zeros(node.channels) if bias is None else bias).astype(np.float32)
        sides = self._graph[node.inputs[0]].shape[1:]
        along: Callable[[tuple[int, int]], Any] = (lambda n: n[1]) if self._signal else np.array
        window: Window = node.window
        return {
            "type": "Conv1d" if self._signal else "Conv2d",
            "input_shape": sides[1] if self._signal else np.array(sides),
            "weight": weight[:, :, 0] if self._signal else weight,
            "bias": whole,
            "stride": along(window.strides),
            "padding": along((window.pads[0], window.pads[1])),
            "dilation": along(window.dilations),
            "groups": node.groups,
        }

    def _neuron(self, node: IntegrateFire | Readout) -> Fields:
        """Return the neuron whose step, by the convention, is that of a population or a leaky read-out."""
        convention, unit = self._convention, 2.0**node.fraction_bits
        decay = _decay(node.decay, node.channels)
        leaks = node.decay is not None and (decay < 1).any()
        filters = node.synapse_decay is not None
        found: dict[str, Numbers] = {}
        kind = "LI" if isinstance(node, Readout) else "CubaLIF" if filters else "LIF" if leaks else "IF"
        if kind == "IF":
            found["r"] = np.full(node.channels, 1.0 if convention.plain_input else 1 / convention.dt)
        else:
            tau, share = self._time_constant(decay)
            found["tau_mem" if filters else "tau"] = tau
            plain = convention.plain_input and convention.discretisation is Discretisation.EXACT
            found["r"] = np.ones(node.channels) if plain else 1 / share
            found["v_leak"] = np.zeros(node.channels)
        if filters:
            tau, share = self._time_constant(_decay(node.synapse_decay, node.channels))
            found |= {"tau_syn": tau, "w_in": 1 / share}
        if isinstance(node, IntegrateFire):
            threshold = (node.threshold / unit).astype(np.float32)
            if convention.strict:  # it fires above the threshold alone
                threshold = np.nextafter(threshold, np.float32(0))
            reset = np.zeros(node.channels) if node.reset_to is None else node.reset_to / unit
            found["v_threshold"] = threshold.astype(np.float64)
            if self._profile.reads != WITHOUT_RESET:
                found["v_reset"] = reset.astype(np.float64)
        return {"type": kind, **{key: self._spread(each, node.shape) for key, each in found.items()}}

    def _time_constant(self, decay: Numbers) -> tuple[Numbers, Numbers]:
        """Return the time constants with these decays in a step, and the shares that are new."""
        convention = self._convention
        tiny = np.float64(2.0**-24)  # what keeps everything has an endless time constant
        kept = np.clip(decay, 0 if convention.discretisation is Discretisation.EULER else tiny, 1 - tiny)
        rate = 1 - kept if convention.discretisation is Discretisation.EULER else -np.log(kept)
        length = convention.dt * (convention.dt if convention.shortened else 1)
        return length / rate, 1 - kept


def emulate(graph: SnnGraph, profile: Profile, q: IntArray) -> IntArray:
    """Return what the consumer answers, in units of the read-out, (rows, *shape) int32."""
    with tempfile.TemporaryDirectory(prefix="snnc-") as folder:
        path = Path(folder) / "network.nir"
        write_network(graph, profile, path)
        return answers(
            path, convention_of(graph, profile), q, graph.readout.shape, graph.readout.fraction_bits
        )


def answers(path: Path, convention: Convention, q: NumberArray, shape: Shape, fraction_bits: int) -> IntArray:
    """Run a file by its consumer's rules, in float32.

    Args:
        path: the file.
        convention: the consumer's.
        q: (rows, T, *input shape), the quantised frames.
        shape: of an answer.
        fraction_bits: by how many bits the read-out's unit is finer than that of a current.

    Returns:
        (rows, *shape) int32.
    """
    graph = lowered(read_nir(path), convention, q.shape[1])
    y = ReferenceSimulator().run(graph, q.astype(np.int32), q.shape[1]).logits
    return np.rint(y.reshape(len(q), *shape) * 2.0**fraction_bits).astype(np.int32)


def emit(graph: SnnGraph, profile: Profile, path: Path) -> Emission:
    """Write a file, and tell how its consumer runs it."""
    nodes = write_network(graph, profile, path)
    convention = convention_of(graph, profile)
    readout = graph.readout
    told = {
        "dt": convention.dt,
        "discretisation": convention.discretisation.value,
        "reset": convention.reset.value if convention.reset is not None else "",
        "shape": list(readout.shape),
        "fraction_bits": readout.fraction_bits,
    }
    facts = {
        "consumer": f"{profile.name} {profile.version}",
        "requirements": list(profile.requirements),
        "nir_version": profile.reads,
        "nodes": nodes,
        "over_time": told,
    }
    reset = "sets the potential to `v_reset`" if convention.reset is Reset.VALUE else "takes the threshold"
    ends = "the last potential" if readout.leaky else "the sum of its last node over all steps"
    guide = f"""## Run it

`{path.name}` is a NIR graph of version {profile.reads}, with the time constants of {profile.name}
{profile.version}: steps of {convention.dt:g}, {convention.discretisation.value}; a spike {reset}.
Its input is the quantised frame `q` of each step as float32; its output is {ends}, `y` in units of
2^-{readout.fraction_bits}.

It was run by snnc's reading of {profile.name}'s rules, which `golden.npz` holds, not by
{profile.name} itself.
"""
    return Emission(guide, facts, reset=f"a spike {reset}")


def verify(path: Path, profile: Profile, golden: Golden, told: Mapping[str, Any]) -> VerificationResult:
    """Run a file by its consumer's rules, and compare.

    Raises:
        ArtefactError: the manifest does not say how, or the file is no network.
    """
    try:
        found = replace(
            PROFILES[profile.name],
            dt=float(told["dt"]),
            discretisation=Discretisation(told["discretisation"]),
            reset=Reset(told["reset"]),
        )
        shape, bits = tuple(map(int, told["shape"])), int(told["fraction_bits"])
        y = answers(path, found, rows_of(golden.q, ""), shape, bits)
    except (KeyError, TypeError, ValueError, InputError, UnsupportedModelError) as error:
        raise ArtefactError(
            f"{path} is no network that its manifest describes ({error}): deploy again"
        ) from None
    wrong = int((y != golden.y).reshape(len(y), -1).any(axis=1).sum())
    name = f"snnc's simulator of {profile.name} {profile.version}"
    return VerificationResult(name, len(y), wrong, "outputs y, in units of the read-out", ())
