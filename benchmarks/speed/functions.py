"""Step functions and functions of spike counts beside the same node in onnxruntime, in float32, in turn.

``python -m benchmarks.speed.functions`` measures the table of docs/performance.md. Every network has one
function between two linear layers and is converted with the preset `precise` at T = 1 (255 levels). Its node
is timed by itself, on one thread, beside a network of onnxruntime that consists of this node. The shortest of
many rounds counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from benchmarks.common import digests
from benchmarks.speed.contests import session
from benchmarks.speed.measure import FUNCTIONS, LINES, ROOT, Lines, machine
from benchmarks.speed.page import report
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.compiler import Options, convert
from snnc.ir.snn import CountFunction, IntegrateFire, SnnGraph
from snnc.simulation.reference import encode_all

ROUNDS, REPEATS = 8, 8
ROWS, BATCH = 48, 4
MAP = (64, 28, 28)
HEADS = (4, 64, 32)
OPSET = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A function to be timed.

    Attributes:
        name: of the row.
        operation: of ONNX.
        shape: of the rows of the network.
        read: of what the function reads.
        settings: its attributes.
        axes: a second input, where it has one.
    """

    name: str
    operation: str
    shape: tuple[int, ...] = MAP
    read: tuple[int, ...] = MAP
    settings: tuple[tuple[str, float], ...] = ()
    axes: tuple[int, ...] = ()

    def node(self, source: str, target: str) -> list[NodeProto]:
        """Return the operation, and the constants that it reads."""
        inputs = [source, "axes"] if self.axes else [source]
        settings: dict[str, Any] = dict(self.settings)
        return [helper.make_node(self.operation, inputs, [target], **settings)]

    def constants(self) -> list[TensorProto]:
        """Return what the operation reads beside the values."""
        return [numpy_helper.from_array(np.array(self.axes, np.int64), "axes")] if self.axes else []


CASES = (
    *(Case(name, name) for name in ("Sigmoid", "Tanh", "Gelu", "HardSwish", "Elu", "LeakyRelu")),
    Case("ReduceMax over a map", "ReduceMax", axes=(2, 3)),
    Case("Softmax over channels", "Softmax", settings=(("axis", 1),)),
    Case("Softmax of attention", "Softmax", HEADS, (4, 64, 64), (("axis", -1),)),
)


def model(nodes: Sequence[NodeProto], shape: tuple[int, ...], constants: Sequence[TensorProto]) -> ModelProto:
    """Return a network from ``x`` to ``y``."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "network", [given], [result], list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = 9
    return made


def network(case: Case) -> ModelProto:
    """Return the function between two linear layers; a softmax of heads is that of attention."""
    rng = np.random.default_rng(0)
    attention = case.shape != case.read
    size = case.shape[-1] if attention else case.shape[0]
    weight = (rng.normal(size=(size, size)) / np.sqrt(size)).astype(np.float32)
    weight = weight if attention else weight[:, :, None, None]
    constants = [numpy_helper.from_array(weight, "w"), *case.constants()]
    if attention:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["q"]),
            helper.make_node("Transpose", ["x"], ["k"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q", "k"], ["a"]),
            *case.node("a", "b"),
            helper.make_node("MatMul", ["b", "x"], ["v"]),
            helper.make_node("MatMul", ["v", "w"], ["y"]),
        ]
    else:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            *case.node("a", "b"),
            helper.make_node("Conv", ["b", "w"], ["y"]),
        ]
    return model(nodes, case.shape, constants)


def timed(found: onnxruntime.InferenceSession, x: NDArray[np.float32]) -> float:
    """Return the seconds of the shortest of some runs, without copies."""
    bound = found.io_binding()
    bound.bind_cpu_input("x", x)
    bound.bind_output("y")
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        found.run_with_iobinding(bound)
        seconds.append(perf_counter() - start)
    return min(seconds)


def function_of(graph: SnnGraph, case: Case) -> str:
    """Return the node that computes the function."""
    kinds = CountFunction if case.operation in ("Softmax", "ReduceMax") else IntegrateFire
    found = (node.name for node in graph if isinstance(node, kinds))
    return next(name for name in found if name.startswith(case.operation))


def rows() -> Iterator[tuple[str, float, float]]:
    """Yield for each case the nanoseconds a value of both."""
    rng = np.random.default_rng(1)
    for case in CASES:
        x = (rng.normal(size=(ROWS, *case.shape)) * 0.5).astype(np.float32)
        made = convert(network(case), x, Options(preset="precise", timesteps=1))
        graph = made.artefact.graph
        name, q = function_of(graph, case), encode_all(graph, x[:BATCH])
        simulator = NumbaSimulator(1)
        alone = session(model(case.node("x", "y"), case.read, case.constants()).SerializeToString(), 1)
        values = rng.normal(size=(BATCH, *case.read)).astype(np.float32)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(timed(alone, values))
            ours.append(simulator.profile(graph, q, 1, rounds=REPEATS)[name])
        yield case.name, 1e9 * min(ours) / values.size, 1e9 * min(theirs) / values.size


def main() -> None:
    """Measure all functions, and write docs/performance.md with them."""
    lines = Lines(FUNCTIONS)
    for name, ours, theirs in rows():
        found = {"function": name, "snn_ns": round(ours, 3), "fp32_ns": round(theirs, 3)}
        lines.add({"code": digests.compiler(), "machine": machine(), **found})
        print(f"{name}: {ours / theirs:.2f}", flush=True)
    report(Lines(LINES).rows, ROOT / "docs" / "performance.md", lines.rows)


if __name__ == "__main__":
    main()
