"""NIR files as the package ``nir`` writes them, and each exporter's neurons, a step at a time.

The equations are those of the exporters' sources, with the parameters that these write into files.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

FEATURES, HIDDEN, CLASSES, STEPS = 12, 16, 4, 40


def weights(bias: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(0.25, 0.5, (HIDDEN, FEATURES))
    second = rng.normal(0.25, 0.5, (CLASSES, HIDDEN))
    found = (first, bias * rng.normal(0, 0.1, HIDDEN), second, bias * rng.normal(0, 0.1, CLASSES))
    return [each.astype(np.float32) for each in found]


def frames(rows: int = 5, shape: tuple[int, ...] = (FEATURES,), seed: int = 1) -> np.ndarray:
    """Return spikes, (rows, steps, *shape) float32."""
    return (np.random.default_rng(seed).random((rows, STEPS, *shape)) < 0.3).astype(np.float32)


def vector(value: float, count: int) -> np.ndarray:
    return np.full(count, value, np.float32)


def write(path: Path, nodes: dict[str, Any], edges: list[tuple[str, str]] | None = None) -> Path:
    """Write a graph; a chain without edges."""
    import nir

    names = list(nodes)
    chain = edges or list(pairwise(names))
    nir.write(path, nir.NIRGraph(nodes=nodes, edges=chain, type_check=False))
    return path


def dense(path: Path, neurons: Any, bias: bool = True) -> Path:
    """Write two dense layers, with a population of so many neurons from ``neurons`` behind each."""
    import nir

    a, b, c, d = weights(bias)
    return write(
        path,
        {
            "input": nir.Input({"input": np.array([FEATURES])}),
            "fc1": nir.Affine(a, b),
            "hidden": neurons(HIDDEN),
            "fc2": nir.Affine(c, d),
            "last": neurons(CLASSES),
            "output": nir.Output({"output": np.array([CLASSES])}),
        },
    )


def run(x: np.ndarray, layer: Any, bias: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of both populations, (steps, rows, neurons), by an exporter's layer."""
    a, b, c, d = weights(bias)
    first, second, found = layer(HIDDEN), layer(CLASSES), []
    for t in range(x.shape[1]):
        hidden = first(x[:, t] @ a.T + b)
        found.append((hidden, second(hidden @ c.T + d)))
    return np.stack([h for h, _ in found]), np.stack([y for _, y in found])


class SnnTorch:
    """``Leaky`` and ``Synaptic`` of snnTorch 1.0.0."""

    def __init__(self, beta: float = 0.9, alpha: float | None = None, reset: str = "subtract") -> None:
        self.beta, self.alpha, self.reset = np.float32(beta), alpha, reset
        self.mem: Any = np.float32(0)
        self.syn: Any = np.float32(0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        reset = (self.mem - np.float32(1) > 0).astype(np.float32)
        self.syn = x if self.alpha is None else np.float32(self.alpha) * self.syn + x
        if self.reset == "subtract":
            self.mem = self.beta * self.mem + self.syn - reset * np.float32(1)
        elif self.alpha is None:
            self.mem = self.beta * ((1 - reset) * self.mem) + self.syn
        else:
            self.mem = self.beta * self.mem + self.syn
            self.mem = self.mem - reset * self.mem
        return (self.mem - np.float32(1) > 0).astype(np.float32)

    @staticmethod
    def node(n: int, beta: float = 0.9, alpha: float | None = None) -> Any:
        import nir

        tau = np.float32(1e-4) / (1 - vector(beta, n))
        common: dict[str, Any] = {
            "v_threshold": vector(1, n),
            "v_leak": vector(0, n),
            "v_reset": vector(0, n),
        }
        if alpha is None:
            return nir.LIF(tau=tau, r=tau / np.float32(1e-4), **common)
        syn = np.float32(1e-4) / (1 - vector(alpha, n))
        return nir.CubaLIF(
            tau_mem=tau, tau_syn=syn, r=tau / np.float32(1e-4), w_in=syn / np.float32(1e-4), **common
        )


class SpikingJelly:
    """``LIFNode`` and ``IFNode`` of SpikingJelly 2.0.0."""

    def __init__(self, tau: float | None = 2.0, decay_input: bool = True, v_reset: float = 0.0) -> None:
        self.tau, self.decay_input, self.v_reset = tau, decay_input, np.float32(v_reset)
        self.v: Any = self.v_reset if tau is not None else np.float32(0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.tau is None:
            self.v = self.v + x
        elif self.decay_input:
            self.v = self.v + (x - (self.v - self.v_reset)) / np.float32(self.tau)
        else:
            self.v = self.v - (self.v - self.v_reset) / np.float32(self.tau) + x
        spikes = (self.v >= np.float32(1)).astype(np.float32)
        self.v = (1 - spikes) * self.v + spikes * self.v_reset
        return spikes

    @staticmethod
    def node(n: int, tau: float | None = 2.0, decay_input: bool = True) -> Any:
        import nir

        common: dict[str, Any] = {"v_threshold": vector(1, n), "v_reset": vector(0, n)}
        if tau is None:
            return nir.IF(r=vector(1e4, n), **common)
        r = 1.0 if decay_input else tau
        return nir.LIF(tau=vector(tau * 1e-4, n), r=vector(r, n), v_leak=vector(0, n), **common)


class Norse:
    """``LIFBoxCell`` and ``IAFCell`` of Norse 1.1.0, with steps of a millisecond."""

    def __init__(self, tau_inverse: float | None = 200.0) -> None:
        self.tau_inverse = tau_inverse
        self.v: Any = np.float32(0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.tau_inverse is None:
            self.v = self.v + x
        else:
            self.v = self.v + np.float32(0.001 * self.tau_inverse) * (x + np.float32(0) - self.v)
        spikes = (self.v - np.float32(1) > 0).astype(np.float32)
        self.v = (1 - spikes) * self.v
        return spikes

    @staticmethod
    def node(n: int, tau_inverse: float | None = 200.0) -> Any:
        import nir

        if tau_inverse is None:
            return nir.IF(r=vector(1, n), v_threshold=vector(1, n))
        tau = vector(0.001 / tau_inverse, n)
        return nir.LIF(tau=tau, r=vector(1, n), v_leak=vector(0, n), v_threshold=vector(1, n))


class Sinabs:
    """``LIF`` and ``IAF`` of sinabs 3.1.3: several spikes a step, without a lower bound."""

    def __init__(self, tau: float | None = 8.0) -> None:
        self.alpha = np.float32(1) if tau is None else np.exp(np.float32(-1 / tau))
        self.v: Any = np.float32(0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.v = self.alpha * self.v + x
        spikes = (self.v > 0) * np.trunc(self.v / np.float32(1))
        self.v = self.v - spikes
        return spikes.astype(np.float32)

    @staticmethod
    def node(n: int, tau: float | None = 8.0) -> Any:
        import nir

        if tau is None:
            return nir.IF(r=vector(1, n), v_threshold=vector(1, n))
        return nir.LIF(tau=vector(tau, n), r=vector(1, n), v_leak=vector(0, n), v_threshold=vector(1, n))


EXPORTERS: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "snntorch subtract": ({"exporter": "snntorch", "reset": "subtract"}, SnnTorch.node, SnnTorch),
    "snntorch zero": (
        {"exporter": "snntorch", "reset": "value"},
        SnnTorch.node,
        partial(SnnTorch, reset="zero"),
    ),
    "snntorch synaptic": (
        {"exporter": "snntorch", "reset": "subtract"},
        partial(SnnTorch.node, alpha=0.8),
        partial(SnnTorch, alpha=0.8),
    ),
    "snntorch synaptic zero": (
        {"exporter": "snntorch", "reset": "value"},
        partial(SnnTorch.node, alpha=0.8),
        partial(SnnTorch, alpha=0.8, reset="zero"),
    ),
    "spikingjelly LIF": ({"exporter": "spikingjelly"}, SpikingJelly.node, SpikingJelly),
    "spikingjelly LIF, input kept": (
        {"exporter": "spikingjelly"},
        partial(SpikingJelly.node, decay_input=False),
        partial(SpikingJelly, decay_input=False),
    ),
    "spikingjelly IF": (
        {"exporter": "spikingjelly"},
        partial(SpikingJelly.node, tau=None),
        partial(SpikingJelly, tau=None),
    ),
    "norse LIF": ({"exporter": "norse"}, Norse.node, Norse),
    "norse IF": ({"exporter": "norse"}, partial(Norse.node, tau_inverse=None), partial(Norse, None)),
    "sinabs LIF": ({"exporter": "sinabs"}, Sinabs.node, Sinabs),
    "sinabs IF": ({"exporter": "sinabs"}, partial(Sinabs.node, tau=None), partial(Sinabs, None)),
}


def trains(graph: SnnGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return spikes of every population, (steps, rows, ...)."""
    q = x.astype(np.int32)
    names = tuple(node.name for node in graph.of_type(IntegrateFire))
    return ReferenceSimulator().run(graph, q, x.shape[1], RecordOptions(trains=names)).trains
