"""NIR files that snnTorch, SpikingJelly, Norse and sinabs write, read: spikes beside the exporter's own.

python benchmarks/consumers/read_nir.py [EXPORTER ...]

In an environment with snnc and the exporters, or some of them (those absent are skipped): torch==2.13.0
nir==1.0.8 nirtorch==2.6 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3. Two dense layers of
16 and 4 neurons run 40 steps on 64 rows of random spikes; printed is the share of steps and neurons whose
spikes are equal, and the same of the file that snnc writes of what it has read.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snnc.backends.nir.over_time import write_network
from snnc.backends.nir.profiles import PROFILES
from snnc.frontend.nir import Convention, lowered, read_nir
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

FEATURES, HIDDEN, CLASSES, STEPS, ROWS = 12, 16, 4, 40, 64


def _linear(torch: Any, inputs: int, outputs: int, seed: int, bias: bool = True) -> Any:
    layer = torch.nn.Linear(inputs, outputs, bias=bias)
    rng = np.random.default_rng(seed)
    layer.weight.data = torch.from_numpy(rng.normal(0.1, 0.5, (outputs, inputs)).astype(np.float32))
    if bias:
        layer.bias.data = torch.from_numpy(rng.normal(0, 0.1, outputs).astype(np.float32))
    return layer


def snntorch(torch: Any, make: Callable[..., Any], bias: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Return a NIR graph, and what gives the last population's spikes, (steps, rows, classes)."""
    snn = importlib.import_module("snntorch")
    export = importlib.import_module("snntorch.export_nir").export_to_nir
    layers = (
        _linear(torch, FEATURES, HIDDEN, 0, bias),
        make(snn, torch.ones(HIDDEN)),
        _linear(torch, HIDDEN, CLASSES, 1, bias),
        make(snn, torch.ones(CLASSES)),
    )
    graph = export(torch.nn.Sequential(*layers), torch.zeros(1, FEATURES), ignore_dims=[0])

    def run(x: Any) -> Any:
        for neurons in (layers[1], layers[3]):
            neurons.reset_mem()
        return torch.stack([layers[3](layers[2](layers[1](layers[0](frame)))) for frame in x])

    return graph, run


def spikingjelly(torch: Any, make: Callable[..., Any], bias: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Likewise."""
    activation = importlib.import_module("spikingjelly.activation_based")
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    exchange = importlib.import_module("spikingjelly.activation_based.nir_exchange")
    del activation
    net = torch.nn.Sequential(
        _linear(torch, FEATURES, HIDDEN, 0, bias),
        make(neuron),
        _linear(torch, HIDDEN, CLASSES, 1, bias),
        make(neuron),
    )
    graph = exchange.export_to_nir(net, torch.zeros(1, FEATURES))
    functional.reset_net(net)
    return graph, lambda x: torch.stack([net(frame) for frame in x])


def norse(torch: Any, make: Callable[..., Any], bias: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Likewise."""
    library = importlib.import_module("norse.torch")
    export = importlib.import_module("norse.torch.utils.export_nir").to_nir
    net = library.SequentialState(
        _linear(torch, FEATURES, HIDDEN, 0, bias),
        make(library, HIDDEN),
        _linear(torch, HIDDEN, CLASSES, 1, bias),
        make(library, CLASSES),
    )
    graph = export(net, torch.zeros(FEATURES))

    def run(x: Any) -> Any:
        state, found = None, []
        for frame in x:
            y, state = net(frame, state)
            found.append(y)
        return torch.stack(found)

    return graph, run


def sinabs(torch: Any, make: Callable[..., Any], bias: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Likewise; its neurons take rows and steps in one axis."""
    layers = importlib.import_module("sinabs.layers")
    export = importlib.import_module("sinabs.nir").to_nir
    net = torch.nn.Sequential(
        _linear(torch, FEATURES, HIDDEN, 0, bias),
        make(layers, torch.ones(HIDDEN)),
        _linear(torch, HIDDEN, CLASSES, 1, bias),
        make(layers, torch.ones(CLASSES)),
    )
    graph = export(net, torch.zeros(ROWS * STEPS, FEATURES))

    def run(x: Any) -> Any:
        for layer in (net[1], net[3]):
            layer.reset_states()
        rows = x.swapaxes(0, 1).reshape(-1, FEATURES)
        return net(rows).reshape(ROWS, STEPS, CLASSES).swapaxes(0, 1)

    return graph, run


def _norse_cell(library: Any, n: int) -> Any:
    """Return neurons with a parameter each: NIR's writer takes no numbers without axes."""
    torch = importlib.import_module("torch")
    values = {"tau_mem_inv": 900.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0}
    parameters = {name: torch.full((n,), value) for name, value in values.items()}
    return library.LIFBoxCell(p=library.LIFBoxParameters(**parameters))


CASES: dict[str, list[tuple[str, Any, Any, dict[str, Any], bool]]] = {
    "snntorch": [
        (f"{cell} {reset}", snntorch, maker, {"reset": ours}, cell != "Synaptic")
        for reset, ours in (("subtract", "subtract"), ("zero", "value"))
        for cell, maker in (
            (
                "Leaky",
                lambda snn, ones, r=reset: snn.Leaky(
                    beta=0.9 * ones, threshold=ones, reset_mechanism=r, init_hidden=True
                ),
            ),
            (
                "Leaky, recurrent",
                lambda snn, ones, r=reset: snn.RLeaky(
                    beta=0.9 * ones,
                    threshold=ones,
                    linear_features=len(ones),
                    reset_mechanism=r,
                    init_hidden=True,
                ),
            ),
            (
                "Synaptic",
                lambda snn, ones, r=reset: snn.Synaptic(
                    alpha=0.8 * ones, beta=0.9 * ones, threshold=ones, reset_mechanism=r, init_hidden=True
                ),
            ),
        )
    ],
    "spikingjelly": [
        ("LIF", spikingjelly, lambda neuron: neuron.LIFNode(tau=2.0), {}, True),
        (
            "LIF, input kept",
            spikingjelly,
            lambda neuron: neuron.LIFNode(tau=3.0, decay_input=False),
            {},
            True,
        ),
        ("IF", spikingjelly, lambda neuron: neuron.IFNode(), {}, True),
        ("parametric LIF", spikingjelly, lambda neuron: neuron.ParametricLIFNode(init_tau=2.5), {}, True),
    ],
    "norse": [
        ("LIFBox", norse, _norse_cell, {}, True),
    ],
    "sinabs": [
        (
            "LIF",
            sinabs,
            lambda layers, ones: layers.LIFSqueeze(
                tau_mem=8 * ones, spike_threshold=ones, batch_size=ROWS, norm_input=False
            ),
            {},
            True,
        ),
        (
            "IAF",
            sinabs,
            lambda layers, ones: layers.IAFSqueeze(spike_threshold=ones, batch_size=ROWS),
            {},
            True,
        ),
    ],
}


def compared(name: str, case: tuple[str, Any, Any, dict[str, Any], bool]) -> str:
    """Export one network, read it, and return one line."""
    import nir
    import torch

    label, export, make, given, bias = case
    torch.manual_seed(0)
    x = (np.random.default_rng(1).random((STEPS, ROWS, FEATURES)) < 0.3).astype(np.float32)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        graph, run = export(torch, make, bias)
        path = Path(folder) / "network.nir"
        nir.write(path, graph)
        theirs = run(torch.from_numpy(x)).numpy()
        convention = Convention.chosen(name, **given)
        ours = lowered(read_nir(path), convention, STEPS)
        write_network(ours, PROFILES[name], path)
        again = lowered(read_nir(path), convention, STEPS)
    read, back = (100 * _equal(each, x, theirs) for each in (ours, again))
    rate = 100 * (theirs > 0).mean()
    equal = f"{read:.3f} % of {theirs.size:,} equal, {back:.3f} % written and read again"
    return f"{name} | {label} | {equal} | spikes in {rate:.1f} %"


def _equal(graph: SnnGraph, x: np.ndarray, theirs: np.ndarray) -> float:
    """Return the share of the last population's spikes that are the exporter's."""
    last = graph.of_type(IntegrateFire)[-1].name
    q = np.moveaxis(x, 0, 1).astype(np.int32)
    found = ReferenceSimulator().run(graph, q, STEPS, RecordOptions(trains=(last,))).trains[last]
    return float((found == theirs).mean())


def main(wanted: list[str]) -> int:
    """Compare with what is installed."""
    for name in wanted or list(CASES):
        if importlib.util.find_spec(name) is None:
            print(f"{name} | not installed")
            continue
        for case in CASES[name]:
            print(compared(name, case), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
