"""Weights taken out by the curvature of the fit: which, and that they stay out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from snnc.analysis.costs import count
from snnc.backends import load_simulator
from snnc.compiler import Options
from snnc.errors import UsageError
from snnc.ir.ann import AnnGraph
from snnc.ir.snn import Convolution, Linear, SnnGraph
from snnc.numerics.pruning import Mask, Sparsity, kept_weights
from snnc.numerics.regression import Float64Array, Normal, normal_equations, ridge
from snnc.passes import PASSES
from snnc.pipeline import Pipeline, run_pipeline
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import encode_all
from tests.ann_graphs import context, residual_network

FRONT = "fold-batchnorm,exact-max-pool,clip-activations,lower,dual-threshold,init-membrane"


def equations(outputs: int = 2, features: int = 8) -> tuple[Normal, Float64Array]:
    random = np.random.default_rng(5)
    mixed = random.integers(0, 3, (400, features)) + random.integers(0, 3, (400, 1))
    w = random.standard_normal((features, outputs))
    y = (mixed @ w + random.standard_normal((400, outputs))).astype(np.float32)
    return normal_equations([mixed.astype(np.int32)], y), np.concatenate([w, np.zeros((1, outputs))])


def error(normal: Normal, start: Float64Array, kept: Mask) -> float:
    """Return ``J`` of the fit with these weights, but for what is the same for all."""
    w = ridge(normal, np.where(kept, start, 0), 0.01, kept)
    gram = normal.gram / normal.rows
    penalty = 0.01 * np.trace(gram) / len(gram)
    fit = np.einsum("fo,fo->", w, gram @ w) - 2 * np.einsum("fo,fo->", w, normal.cross / normal.rows)
    return float(fit + penalty * ((w - start) ** 2).sum())


def test_the_first_weight_to_go_raises_the_error_least() -> None:
    normal, start = equations(1)
    free = np.ones(start.shape, np.bool_)
    kept = kept_weights(normal, start, 0.01, free, Sparsity(7 / 8), np.arange(8))
    (gone,) = np.flatnonzero(~kept)
    errors = [error(normal, start, np.arange(9)[:, None] != index) for index in range(8)]
    assert gone == int(np.argmin(errors))


def test_half_of_the_weights_are_nearly_the_best_half() -> None:
    normal, start = equations(1)
    free = np.ones(start.shape, np.bool_)
    kept = kept_weights(normal, start, 0.01, free, Sparsity(0.5), np.arange(8))
    assert kept.sum() == 4 + 1
    every = sorted(
        error(normal, start, np.isin(np.arange(9), (*chosen, 8))[:, None])
        for chosen in combinations(range(8), 4)
    )
    assert error(normal, start, kept) <= every[3]
    smallest = np.isin(np.arange(9), (*np.argsort(-np.abs(start[:8, 0]))[:4], 8))[:, None]
    assert error(normal, start, kept) <= error(normal, start, smallest)


def test_of_neighbours_as_many_stay_as_the_pattern_says() -> None:
    normal, start = equations(3, 12)
    sparsity = Sparsity.of(1, "2:4")
    assert sparsity is not None
    blocks = sparsity.blocks(6, 2)  # six channels at two positions: of four, and of the two that are left
    kept = kept_weights(normal, start, 0.01, np.ones(start.shape, np.bool_), sparsity, blocks)
    by_channel = kept[:-1].reshape(6, 2, 3)
    assert (by_channel[:4].sum(axis=0) == 2).all()
    assert (by_channel[4:].sum(axis=0) == 2).all()
    assert kept[-1].all()


def test_what_is_zero_already_stays_gone() -> None:
    normal, start = equations()
    free = np.ones(start.shape, np.bool_)
    free[3] = False
    kept = kept_weights(normal, np.where(free, start, 0), 0.01, free, Sparsity(0.75), np.arange(8))
    assert not kept[3].any()
    assert kept[:-1].sum() == 12


def converted(source: AnnGraph, option: str) -> tuple[SnnGraph, Mapping[str, float]]:
    """Return an integer network, and the density of each layer that compensation reports."""
    made = context(source, rows=120)
    made.simulator = load_simulator("numba", 1)
    braces = f"{{{option}}}" if option else ""
    passes = Pipeline.parse(f"{FRONT},compensate{braces},quantise-weights", PASSES)
    graph, records = run_pipeline(passes, source, made)
    assert isinstance(graph, SnnGraph)
    return graph, records[-2].findings.get("density", {})


def effective(graph: SnnGraph) -> float:
    """Return the share of the operations whose weight is not zero."""
    x = np.random.default_rng(1).standard_normal((16, *graph.input.shape)).astype(np.float32)
    asked = RecordOptions(activity=True)
    trace = load_simulator("numba", 1).run(graph, encode_all(graph, x), graph.timesteps, asked)
    costs = count(graph, trace.activity, 16, graph.timesteps)
    return costs.effective_synops / costs.synops


@pytest.mark.parametrize("option", ["density=0.3", "pattern=1:4"])
def test_a_converted_network_has_the_density_and_costs_less(option: str) -> None:
    source = residual_network()
    graph, reported = converted(source, option)
    dense, _ = converted(source, "")
    layers = [n for n in graph.nodes if isinstance(n, Convolution | Linear) and n.name != "conv0"]
    left = {node.name: np.count_nonzero(node.weight) for node in layers}
    size = {node.name: node.weight.size for node in layers}
    # Rounding to integers adds a few zeros.
    assert 0.22 < sum(left.values()) / sum(size.values()) <= (0.301 if option == "density=0.3" else 0.25)
    if (
        option != "density=0.3"
    ):  # a pattern holds in each layer, a density in a layer and its shortcut together
        assert max(left[name] / size[name] for name in left) <= 0.25
    for name, count_left in left.items():
        assert reported[name] == pytest.approx(count_left / size[name], abs=1e-4)
    assert effective(graph) < 0.5 * effective(dense)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("density=0", r"density must lie in \(0, 1\]"),
        ("density=1.5", r"density must lie in \(0, 1\]"),
        ("pattern=4:2", "is not N:M with 0 < N < M"),
        ("pattern=half", "is not N:M"),
        ("pattern=2:4,density=0.5", "sets the density"),
        ("density=0.5,weights=false", "leave weights=false out"),
    ],
)
def test_what_makes_no_sense_is_refused(options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Pipeline.parse(f"compensate{{{options}}}", PASSES)


def test_a_layer_that_would_vanish_is_named() -> None:
    with pytest.raises(UsageError, match=r"density=0.0005 leaves none of the [0-9,]+ weights of '.+'"):
        converted(residual_network(), "density=0.0005")


def test_a_density_that_nothing_would_keep_is_refused() -> None:
    source = residual_network()
    with pytest.raises(UsageError, match="too few to choose weights by"):
        run_pipeline(
            Pipeline.parse(f"{FRONT},compensate{{density=0.5}}", PASSES), source, context(source, rows=20)
        )
    settings = {"compensate.density": 0.5}
    options = Options(timesteps=4, preset="balanced", precision="float32")
    options.passes()
    with pytest.raises(UsageError, match="leave out --precision float32"):
        replace(options, settings=settings).passes()
