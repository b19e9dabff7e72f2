"""Reconstruction layer by layer lowers the error of layers; what it does to answers is another matter."""

from __future__ import annotations

import numpy as np

from snnc.ir import snn
from snnc.passes import PASSES
from snnc.passes.learn_thresholds import LearnThresholds, Objective
from snnc.pipeline import Context, Pipeline, RemainingPasses, run_pipeline
from snnc.simulation.partial import PartialSimulation
from snnc.source.source_map import activation, pre_activation, rectifier
from tests.ann_graphs import context, residual_network
from tests.test_learning import FRONT


def error_of_the_first_layer(graph: snn.SnnGraph, made: Context) -> float:
    integer, _ = run_pipeline(Pipeline.parse("quantise-weights", PASSES), graph, made)
    assert isinstance(integer, snn.SnnGraph)
    node = integer["relu0"]
    assert isinstance(node, snn.IntegrateFire)
    prefix = PartialSimulation(integer, made.calibration.rows, made.simulator)
    counts = prefix.simulate(integer, ["relu0"], trains=False).counts["relu0"]
    source = made.ann()
    target = activation(rectifier(source, node), pre_activation(made.calibration, source, node)[:])
    return float(np.square(target - node.decoded(counts, integer.timesteps)).mean())


def test_the_error_of_a_layer_falls() -> None:
    source = residual_network(4)
    made = context(source, rows=100, timesteps=2)
    text = FRONT.replace("clip-activations", "clip-activations{method=max}")
    graph, _ = run_pipeline(Pipeline.parse(text, PASSES), source, made)
    assert isinstance(graph, snn.SnnGraph)
    found = LearnThresholds(objective=Objective.LAYER, rows=100).run(graph, made)
    assert not found.integer
    assert error_of_the_first_layer(found, made) < 0.9 * error_of_the_first_layer(graph, made)
    before, after = graph["relu1"], found["relu1"]
    assert isinstance(before, snn.IntegrateFire)
    assert isinstance(after, snn.IntegrateFire)
    factors = after.threshold / before.threshold
    assert (factors < 1).all()  # from the maximum they come down
    assert np.allclose(after.spike_scale / before.spike_scale, factors, rtol=1e-5)


def test_layers_are_judged_with_what_arrives_with_the_bias() -> None:
    """Potentials that start low and get the rest with the bias must not bring thresholds down."""
    source = residual_network(5)
    made = context(source, rows=100, timesteps=4)
    front = FRONT.replace("init-membrane", "init-membrane{fraction=0.0}")
    graph, _ = run_pipeline(Pipeline.parse(front, PASSES), source, made)
    assert isinstance(graph, snn.SnnGraph)
    factors = {}
    for back in ("compensate", "compensate{ramp=true}"):
        made.rest = RemainingPasses(Pipeline.parse(back, PASSES), made)
        found = LearnThresholds(objective=Objective.LAYER, rows=100).run(graph, made)
        last, given = found["relu4"], graph["relu4"]
        assert isinstance(last, snn.IntegrateFire)
        assert isinstance(given, snn.IntegrateFire)
        np.testing.assert_allclose(last.v_init, given.v_init)
        factors[back] = float((last.threshold / given.threshold).mean())
    assert factors["compensate"] < 0.9 * factors["compensate{ramp=true}"]
