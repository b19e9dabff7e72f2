"""What a spiking network costs, and two networks that it must be compared with.

All is counted per image, over all steps: synaptic operations (an accumulate, AC, for a unit spike; a
multiply-accumulate, MAC, for a graded one and for the analogue first layer), one weight fetched for each, one
read and one write of every membrane potential in every step, and the bits that spikes carry. A *cost model*
turns counts into picojoules; it is an assumption about hardware and is always named with the result.

No gain is reported without its baselines:

* the source network in fp32, every multiplication done;
* the *fair* one: the same network with activations of ``b = ceil(log2(T M + 1))`` bits, which hold as many
  levels as the spikes do, on the same int8 weights, skipping its zeros as the spiking network does.

Both write and read an activation once, also where two populations, one of them fine, stand for it.

The figures of the model ``45nm`` are those of Horowitz, "Computing's energy problem (and what we can do
about it)", ISSCC 2014, for 45 nm at 0.9 V: adding two integers of 8 bits 0.03 pJ, of 32 bits 0.1 pJ;
multiplying integers of 8 bits 0.2 pJ; adding 32-bit floats 0.9 pJ, multiplying them 3.7 pJ; reading 64 bits
from a cache of 8 kB 10 pJ. So an accumulate into 32 bits takes 0.1 pJ, an int8 multiply-accumulate 0.2 +
0.1, one in fp32 3.7 + 0.9, a byte 10 / 8 and a word of 32 bits 10 / 2; an int8 multiplication is divided
evenly over the 8 bits of an activation, 0.2 / 8.

Those of ``loihi`` are from table 2 of Davies et al., "Loihi: A Neuromorphic Manycore Processor with On-Chip
Learning", IEEE Micro 38(1), 2018: at least 23.6 pJ per synaptic operation, 81 pJ per update of an active
neuron (every update is counted as one). They come from simulations before the chip was made, and the spikes'
way from core to core is left out.

Yan et al., "Reconsidering the energy efficiency of spiking neural networks", arXiv 2409.08290 (2024), is the
source of the fair baseline and of counting memory traffic; Yik et al., "The NeuroBench framework", Nature
Communications 16 (2025), of the names of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

from snnc.analysis import costs
from snnc.analysis.costs import Costs
from snnc.analysis.latency import latency_steps
from snnc.analysis.neurobench import dense, footprint
from snnc.analysis.node_costs import fan_outs
from snnc.errors import InputError
from snnc.ir.bounds import count_bounds
from snnc.ir.graph import IntArray
from snnc.ir.operations import check_known, firing, largest_spike
from snnc.ir.snn import Function, IntegrateFire, SnnGraph
from snnc.option_files import read_toml


@dataclass(frozen=True, slots=True)
class CostModel:
    """Energies of single operations, in pJ.

    Attributes:
        name: how results refer to it.
        source: where the figures come from.
        ac: add a weight to a potential.
        mac: multiply an int8 weight by a graded spike or an analogue input, and add.
        weight_fetch: read one int8 weight.
        membrane_access: read or write one potential.
        neuron_update: whatever else a neuron costs in a step.
        fp32_mac: multiply and add in 32-bit floats.
        fp32_fetch: read or write one 32-bit word.
        int_multiply_per_bit: multiply an int8 weight by one bit of an integer activation.
        int_add: add the product.
    """

    name: str
    source: str
    ac: float
    mac: float
    weight_fetch: float
    membrane_access: float
    neuron_update: float
    fp32_mac: float
    fp32_fetch: float
    int_multiply_per_bit: float
    int_add: float


MODELS = {
    model.name: model
    for model in (
        CostModel(
            name="45nm",
            source="Horowitz, ISSCC 2014: 45 nm at 0.9 V, 64 bits from an 8 kB SRAM for 10 pJ",
            ac=0.1,
            mac=0.3,
            weight_fetch=1.25,
            membrane_access=5.0,
            neuron_update=0.0,
            fp32_mac=4.6,
            fp32_fetch=5.0,
            int_multiply_per_bit=0.025,
            int_add=0.1,
        ),
        CostModel(
            name="loihi",
            source="Davies et al., IEEE Micro 2018: 23.6 pJ a synaptic operation, 81 pJ a neuron update, "
            "memory included, simulated before the chip was made; the baselines do not run on it and are "
            "priced at 45 nm",
            ac=23.6,
            mac=23.6,
            weight_fetch=0.0,
            membrane_access=0.0,
            neuron_update=81.0,
            fp32_mac=4.6,
            fp32_fetch=5.0,
            int_multiply_per_bit=0.025,
            int_add=0.1,
        ),
    )
}
"""The cost models that are known by name."""


STANDARD = MODELS["45nm"]
"""The model by which conversions are compared."""


def picojoules(counted: Costs, model: CostModel = STANDARD) -> float:
    """Return what the spiking network alone takes, per image, as :attr:`Energy.snn_pj`."""
    updates = counted.neurons * counted.steps
    return (
        (model.ac + model.weight_fetch) * counted.acs
        + (model.mac + model.weight_fetch) * counted.macs
        + (2 * model.membrane_access + model.neuron_update) * updates
    )


def read_model(path: Path) -> CostModel:
    """Read a cost model of the user's own from TOML: the fields of :class:`CostModel`, energies in pJ.

    Raises:
        InputError: the file is missing, damaged, a key is unknown or missing, or a value is no energy.
    """
    values = read_toml(path, "the cost model")
    known = [entry.name for entry in fields(CostModel)]
    unknown, missing = sorted(set(values) - set(known)), [key for key in known if key not in values]
    if unknown or missing:
        wrong = f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(missing)}"
        raise InputError(f"the cost model {path} needs the keys {', '.join(known)}; {wrong}")
    for key, value in values.items():
        if key in ("name", "source"):
            if not isinstance(value, str):
                raise InputError(f"{key} = {value!r} in {path} is no text: write it in quotes")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InputError(f"{key} = {value!r} in {path} is no energy in pJ")
    return CostModel(**values)


@dataclass(frozen=True, slots=True)
class Operations:
    """What one image sets in motion, in one network.

    Attributes:
        macs: multiply-accumulates.
        acs: accumulates.
        weight_fetches: weights read.
        state_accesses: potentials, or activations, read and written.
        neuron_updates: neurons times steps.
        activation_bits: of one activation or spike, where it is an integer.
        bits_sent: payload of all spikes, or of all activations.
        table_lookups: of step functions and exponentials. No cost model has a price for them.
        divisions: likewise, square roots included.
    """

    macs: float
    acs: float
    weight_fetches: float
    state_accesses: float
    neuron_updates: float
    activation_bits: int
    bits_sent: float
    table_lookups: float = 0.0
    divisions: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerEnergy:
    """What the spikes of one population or function of counts cause, per image.

    Attributes:
        name: of the node.
        synops: synaptic operations.
        picojoules: of those, and of its potentials, in the cost model.
    """

    name: str
    synops: float
    picojoules: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Counts and energies of a spiking network and its two baselines, per image.

    Attributes:
        model: the cost model.
        snn: counts of the spiking network.
        fp32: counts of the source network in fp32.
        fair: counts of the integer network of equal levels that skips its zeros.
        layers: of each population.
        first_layer: energy of the analogue first layer in pJ.
        neurobench: metrics under their NeuroBench names.
        latency_steps: from input to answer.
    """

    model: CostModel
    snn: Operations
    fp32: Operations
    fair: Operations
    layers: tuple[LayerEnergy, ...]
    first_layer: float
    neurobench: Mapping[str, Any]
    latency_steps: int

    @property
    def snn_pj(self) -> float:
        """Energy of the spiking network, in pJ per image."""
        model, counted = self.model, self.snn
        return (
            model.ac * counted.acs
            + model.mac * counted.macs
            + model.weight_fetch * counted.weight_fetches
            + model.membrane_access * counted.state_accesses
            + model.neuron_update * counted.neuron_updates
        )

    @property
    def fp32_pj(self) -> float:
        """Energy of the source network in fp32, in pJ per image."""
        words = self.fp32.weight_fetches + self.fp32.state_accesses
        return self.model.fp32_mac * self.fp32.macs + self.model.fp32_fetch * words

    @property
    def fair_pj(self) -> float:
        """Energy of the fair baseline, in pJ per image; its activations are read and written as bytes."""
        mac = self.model.int_multiply_per_bit * self.fair.activation_bits + self.model.int_add
        bytes_read = self.fair.weight_fetches + self.fair.state_accesses
        byte = MODELS["45nm"].weight_fetch if self.model.weight_fetch == 0 else self.model.weight_fetch
        return mac * self.fair.macs + byte * bytes_read

    @property
    def ratio_to_fp32(self) -> float | None:
        """Energy relative to the source network in fp32; ``None`` where the model prices that at nothing."""
        return _ratio(self.snn_pj, self.fp32_pj)

    @property
    def ratio_to_fair(self) -> float | None:
        """Energy relative to the fair baseline; ``None`` where that takes none."""
        return _ratio(self.snn_pj, self.fair_pj)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model": asdict(self.model),
            "snn": {**asdict(self.snn), "picojoules": self.snn_pj},
            "baselines": {
                "fp32": {**asdict(self.fp32), "picojoules": self.fp32_pj},
                "fair": {**asdict(self.fair), "picojoules": self.fair_pj},
            },
            "ratio_to_fp32": self.ratio_to_fp32,
            "ratio_to_fair": self.ratio_to_fair,
            "latency_steps": self.latency_steps,
            "neurobench": dict(self.neurobench),
            "layers": [asdict(layer) for layer in self.layers],
            "first_layer_picojoules": self.first_layer,
        }


def microjoules(picojoules: float) -> str:
    """Return an energy in µJ as text, the same wherever it is told: three digits, or all before the point."""
    value = 1e-6 * picojoules
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _ratio(value: float, baseline: float) -> float | None:
    return value / baseline if baseline > 0 else None


def event_bits(node: IntegrateFire, timesteps: int) -> int:
    """Return the bits of one message: a binary spike 1, signed levels up to m ``ceil(log2(2 m + 1))``.

    Unit spikes are sent one by one; several levels of a step in one message.
    """
    neuron, signed = node.neuron, firing(node).remembers
    most = neuron.levels if costs.unary(neuron) else largest_spike(node, timesteps)
    return max(1, ceil(log2((2 * most if signed else most) + 1)))


def level_bits(node: IntegrateFire, timesteps: int) -> int:
    """Return the bits of an integer activation with as many levels: ``ceil(log2(T M + 1))``.

    The levels of a step function are those from the least to the largest of its counts.
    """
    return max(1, ceil(log2((node.span() or node.neuron.capacity(timesteps)) + 1)))


def account(
    graph: SnnGraph,
    counted: Costs,
    ann_macs: int,
    nonzero: Mapping[str, IntArray],
    timesteps: int,
    model: CostModel,
    segments: Mapping[str, int] | None = None,
) -> Energy:
    """Count what a network costs.

    Args:
        graph: the spiking network.
        counted: its operations.
        ann_macs: multiply-accumulates of the source network, per image.
        nonzero: (*shape) of every population, in how many images its activation, rounded to the levels that
            its spikes have, is not zero.
        timesteps: T.
        model: the energies.
        segments: of the inputs, by their names, where segments wait for one another.
    """
    check_known(graph)
    populations = graph.of_type(IntegrateFire)
    reach = fan_outs(graph)
    neurons = counted.neurons
    sent = sum(
        (layer.units if costs.unary(node.neuron) else layer.events) * event_bits(node, timesteps)
        for layer, node in zip(counted.layers, populations, strict=True)
    )
    functions = [node for node in graph if isinstance(node, Function)]
    counts = count_bounds(graph, timesteps) if functions else {}
    sent += sum(
        layer.events * ceil(log2(2 * counts[node.name] + 1))
        for layer, node in zip(counted.functions, functions, strict=True)
    )
    snn = Operations(
        macs=counted.macs,
        acs=counted.acs,
        weight_fetches=counted.macs + counted.acs,
        state_accesses=2 * neurons * counted.steps,
        neuron_updates=neurons * counted.steps,
        activation_bits=max((event_bits(node, timesteps) for node in populations), default=1),
        bits_sent=sent / counted.images,
        table_lookups=counted.lookups,
        divisions=counted.divisions,
    )
    bits = max((level_bits(node, timesteps) for node in populations), default=1)
    done = sum(float((nonzero[node.name] * reach[node.name]).sum()) for node in populations) / counted.images
    # Of functions no zeros are skipped, and each is evaluated once.
    done += sum(int(reach[node.name].sum()) for node in functions) + counted.products / counted.steps
    fair_macs = counted.first_layer_macs + done
    values = sum(_activations(populations).values()) + sum(prod(node.shape) for node in functions)
    return Energy(
        model=model,
        snn=snn,
        fp32=Operations(ann_macs, 0, ann_macs, 2 * values, values, 32, 32.0 * values),
        fair=Operations(fair_macs, 0, fair_macs, 2 * values, values, bits, float(bits * values)),
        layers=_layers(counted, model),
        first_layer=counted.first_layer_macs * (model.mac + model.weight_fetch),
        neurobench=_neurobench(graph, counted),
        latency_steps=latency_steps(graph, timesteps, segments),
    )


def _activations(populations: Sequence[IntegrateFire]) -> dict[str, int]:
    """Return how many values each activation has that populations stand for, some of them a second time."""
    return {node.stands_for or node.name: prod(node.shape) for node in populations}


def _layers(counted: Costs, model: CostModel) -> tuple[LayerEnergy, ...]:
    found = []
    for layer in counted.senders:
        acs, macs = layer.acs / counted.images, (layer.macs + layer.own.products) / counted.images
        updates = layer.neurons * counted.steps
        energy = (
            model.ac * acs
            + model.mac * macs
            + model.weight_fetch * (acs + macs)
            + (2 * model.membrane_access + model.neuron_update) * updates
        )
        found.append(LayerEnergy(layer.name, acs + macs, energy))
    return tuple(found)


def _neurobench(graph: SnnGraph, counted: Costs) -> dict[str, Any]:
    """Return metrics by their NeuroBench names.

    Synapses of weight zero are counted as operations, which NeuroBench leaves out.
    """
    return {
        "footprint": footprint(graph, counted.neurons),
        "connection_sparsity": costs.weight_sparsity(graph),
        "activation_sparsity": 1 - counted.events_per_neuron_per_step,
        "synaptic_operations": {
            "Effective_MACs": counted.macs,
            "Effective_ACs": counted.acs,
            "Dense": dense(graph, counted),
        },
        "membrane_updates": counted.neurons * counted.steps,
    }
