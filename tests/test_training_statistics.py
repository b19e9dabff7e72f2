"""Statistics of batch normalisations: what is judged and kept has those of its own parameters."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from snnc.ir import ann
from snnc.passes import PASSES
from snnc.pipeline import Pipeline, run_pipeline
from tests.ann_graphs import context, residual_network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch
from torch import Tensor

from snnc.training.ann_network import MOMENTUM, AnnNetwork
from snnc.training.learner import Learner
from snnc.training.normalised import moments, normalised, weighted
from snnc.training.recipe import Recipe


def learner_and_batches(seed: int) -> tuple[Learner, list[dict[str, Tensor]]]:
    graph = residual_network(seed, pool=True)
    learner = Learner(AnnNetwork(graph), Recipe(epochs=1))
    generator = torch.Generator().manual_seed(seed)
    (given,) = graph.inputs
    rows = torch.randn((60, *given.shape), generator=generator)
    return learner, [{given.name: part} for part in rows.split(20)]


def answers(learner: Learner, batch: dict[str, Tensor]) -> Tensor:
    learner.network.eval()
    with torch.no_grad():
        (found,) = learner.run(batch).outputs.values()
    return found


def test_the_size_of_weights_in_front_of_a_normalisation_does_not_matter() -> None:
    learner, batches = learner_and_batches(1)
    learner.take_statistics(batches)
    expected = answers(learner, batches[0])
    graph = learner.network.source
    with torch.no_grad():
        for each in learner.network.learned:
            readers = [type(node) for node in graph.consumers[each.node]]
            if each.role == "weights" and readers == [ann.BatchNormalisation]:
                each.tensor.mul_(3.0)
    stale = answers(learner, batches[0])
    learner.take_statistics(batches)
    np.testing.assert_allclose(answers(learner, batches[0]), expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(stale, expected, rtol=1e-2, atol=1e-2)


def test_statistics_are_the_mean_over_batches_and_nothing_else_changes() -> None:
    learner, batches = learner_and_batches(2)
    before = learner.state()
    learner.take_statistics(batches)
    norm = next(node for node in learner.network.source if isinstance(node, ann.BatchNormalisation))
    after = learner.state()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split("_")[-1] for name in changed} == {"mean", "variance"}
    assert isinstance(learner.network, AnnNetwork)
    assert learner.network.momentum == MOMENTUM
    learner.network.eval()
    means = []
    with torch.no_grad():
        for batch in batches:
            kept = learner.run(batch, [norm.inputs[0]]).kept[norm.inputs[0]]
            means.append(kept.mean(dim=(0, 2, 3)))
        found = learner.network.value(norm, "mean")
    np.testing.assert_allclose(found, torch.stack(means).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_rounded_to_few_levels_weights_give_what_the_source_gave() -> None:
    """Of each channel, mean and variance: one level moves both so far that learning would begin far off."""
    graph = residual_network(4)
    (given,) = graph.inputs
    rows = {given.name: torch.randn((60, *given.shape), generator=torch.Generator().manual_seed(4))}
    folded, _ = run_pipeline(Pipeline.parse("fold-batchnorm", PASSES), graph, context(graph))
    assert isinstance(folded, ann.AnnGraph)
    found = moments(AnnNetwork(folded).eval(), [rows], weighted(folded))
    assert len(found) == 6
    rounded = folded.map(
        ann.Relu, lambda node: node.with_(threshold=np.ones(node.channels, np.float32), levels=1)
    )
    network = AnnNetwork(normalised(rounded, found), 1, relative=True).train()
    norms = {name: network.source.consumers[name][0].name for name in found}
    with torch.no_grad():
        kept = network(rows, list(norms.values())).kept
    for name, (mean, variance) in found.items():
        values = kept[norms[name]].transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(values.mean(axis=1), mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(values.var(axis=1), variance, rtol=1e-2, atol=1e-3)


def test_they_are_the_same_at_every_call() -> None:
    learner, batches = learner_and_batches(3)
    learner.take_statistics(batches)
    first = learner.state()
    learner.take_statistics(batches)
    assert all(torch.equal(value, first[name]) for name, value in learner.state().items())
