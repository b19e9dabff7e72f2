"""Leaky rectifiers between weights become two rectifiers: the same function, and finer levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.ir import ann, snn
from snnc.ir.graph import FloatArray
from snnc.passes.split_slopes import LEAKY, SplitSlopes
from snnc.pipeline import Context
from snnc.report.origin import prepared_source
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.calibration import Calibration
from tests.ann_graphs import Builder
from tests.onnx_models import model, node, saved

EACH = np.linspace(-0.5, 0.5, 6, dtype=np.float32)[None]
ALL = np.array([[0.1]], np.float32)


def leaky(b: Builder, name: str, source: str, slopes: FloatArray = ALL) -> str:
    made = ann.Pointwise(name=name, inputs=(source,), shape=b.shapes[source], program=LEAKY, constants=slopes)
    return b.add(made)


def finished(b: Builder, last: str) -> ann.AnnGraph:
    graph = ann.AnnGraph(name="net", nodes=tuple(b.nodes), outputs=(last,), output_names=("y",))
    graph.verify()
    return graph


def divided(graph: ann.AnnGraph) -> ann.AnnGraph:
    rows = np.random.default_rng(0).normal(size=(5, *graph.inputs[0].shape)).astype(np.float32)
    result = SplitSlopes().run(graph, Context(Calibration(rows, 1), 1, ReferenceSimulator()))
    result.verify()
    for wanted, found in zip(run_ann(graph, rows)[0], run_ann(result, rows)[0], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    return result


@pytest.mark.parametrize("slopes", [ALL, EACH], ids=["one slope", "a slope for each"])
@pytest.mark.parametrize("groups", [(1, 1), (2, 3), (1, 6), (2, 1)])
def test_the_function_stays_the_same(slopes: FloatArray, groups: tuple[int, int]) -> None:
    b = Builder(0, (2, 5, 5))
    first = leaky(b, "a", b.conv("c1", "x", 6, groups=groups[0]), slopes)
    second = leaky(b, "b", b.conv("c2", first, 6, groups=groups[1]), slopes)
    graph = divided(finished(b, b.conv("c3", second, 4)))
    assert not list(graph.of_type(ann.Pointwise))
    assert [each.shape for each in graph.of_type(ann.Relu)] == [(12, 5, 5)] * 2


def test_what_others_read_or_make_stays() -> None:
    b = Builder(1, (2, 5, 5))
    added = leaky(b, "added", b.conv("c1", "x", 6))
    twice = b.conv("c2", added, 6)
    total = b.sum("sum", added, leaky(b, "twice", twice), twice)
    summed = leaky(b, "summed", total)
    graph = divided(finished(b, leaky(b, "last", b.conv("c3", summed, 4))))
    assert [each.name for each in graph.of_type(ann.Pointwise)] == ["added", "twice", "summed", "last"]


def test_levels_are_finer_and_the_report_finds_its_layers(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    nodes, constants, read = [], {}, "x"
    for layer in range(4):
        constants[f"w{layer}"] = random.normal(size=(12, 12)).astype(np.float32) / 3
        nodes.append(node("MatMul", f"{read} w{layer}", f"z{layer}"))
        read = f"a{layer}"
        nodes.append(node("LeakyRelu", f"z{layer}", read, alpha=0.1))
    constants["w"] = random.normal(size=(12, 5)).astype(np.float32)
    path = saved(tmp_path, model([*nodes, node("MatMul", f"{read} w")], ["n", 12], constants))
    rows = random.normal(size=(400, 12)).astype(np.float32)

    def error(pipeline: str) -> float:
        artefact = convert(path, rows, Options(1, None, pipeline, threads=1)).artefact
        trace = load_simulator("numba", 1).run(artefact.graph, artefact.encode(rows), 1)
        z = rows
        for layer in range(4):
            z = np.asarray(z @ constants[f"w{layer}"], np.float32)
            z = np.maximum(z, 0.1 * z)
        found = artefact.decode(trace)["y"] - z @ constants["w"]
        source = prepared_source(artefact, path, ReferenceSimulator())
        populations = artefact.graph.of_type(snn.IntegrateFire)
        assert all(source[each.name].shape == each.shape for each in populations)
        return float(np.square(found).sum())

    front, back = "fold-batchnorm,compose-linear,", "clip-activations{levels=15},lower,multi-threshold,"
    back += "set-schedule,init-membrane,quantise-weights"
    assert error(f"{front}split-slopes,rectify-linear,{back}") < 0.7 * error(f"{front}rectify-linear,{back}")
