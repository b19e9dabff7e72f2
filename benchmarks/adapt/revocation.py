"""Revocation: random edits taken back, held against networks that learned only what is left."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.adaptation import Options, adapt, revoke
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Head
from snnc.ir.graph import IntArray
from snnc.simulation.reference import ReferenceSimulator


@click.command()
@click.option("--sequences", default=1000, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first, which is its seed.")
def revocation(sequences: int, first: int) -> None:
    """Adapt and revoke at random, and compare with networks that learned only what is left."""
    random = np.random.default_rng(0)
    weight = {"w": random.normal(size=(12, 8)), "b": random.normal(size=12), "v": random.normal(size=(4, 12))}
    constants = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weight.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = random.normal(size=(200, 8)).astype(np.float32)
    artefact = snnc.convert(model.SerializeToString(), x, timesteps=4, preset="fast", threads=1)
    begin, equal, adapted, revoked = time.perf_counter(), 0, 0, 0
    for number in range(first, first + sequences):
        same, learned, gone = sequence(artefact, x, np.random.default_rng(number))
        equal, adapted, revoked = equal + same, adapted + learned, revoked + gone
    print(
        f"{equal} of {sequences} sequences byte-identical ({adapted:,} edits, {revoked:,} revocations, "
        f"{time.perf_counter() - begin:.0f} s)."
    )


def sequence(artefact: Artefact, x: Any, random: np.random.Generator) -> tuple[bool, int, int]:
    """Run one sequence; return whether the bytes are equal, and how often it learned and took back."""
    simulator = ReferenceSimulator()
    options = Options(head=(Head.LINEAR, Head.PROTOTYPE)[random.integers(2)], improve=True, gaps=True)
    current, learned, gone = artefact, 0, 0
    kept: dict[str, tuple[IntArray, IntArray]] = {}

    def step(on: Artefact, rows: IntArray, labels: IntArray) -> Any:
        return adapt(on, x[rows], labels, options, simulator)

    for _ in range(6):
        if kept and random.random() < 0.4:
            name = list(kept)[random.integers(len(kept))]
            current, _ = revoke(current, name)
            del kept[name]
            gone += 1
            continue
        rows: IntArray = random.choice(len(x), 12, replace=False)
        labels: IntArray = np.repeat(random.choice(8, 3, replace=False), 4)
        found = step(current, rows, labels)
        current, kept[found.edit.id] = found.artefact, (rows, labels)
        learned += 1
    alone: Artefact = artefact
    for rows, labels in kept.values():
        alone = step(alone, rows, labels).artefact
    contents = [each.model().SerializeToString(deterministic=True) for each in (current, alone)]
    return contents[0] == contents[1], learned, gone
