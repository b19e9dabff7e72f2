"""LSTM, GRU and RNN as ordinary operations: the sequence, whose length is known, is unrolled step by step.

Each operation bears the name of its node, the direction, the step and the gate. The weights of all steps are
the same arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from snnc.frontend.recurrent.cells import Notes, State, Step, write_step
from snnc.frontend.recurrent.layer import OLDEST, Operands, UnrollingError, layer_of
from snnc.frontend.tensors import Constant


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A node that other operations stand for: a recurrent one, unrolled, or attention.

    Attributes:
        steps: the operations, one list for each step of each direction and a last one that joins the results.
        constants: what they read beside, by name.
        inputs: by position, what they call the inputs of the node that are not constant.
        outputs: what they call the outputs of the node, in order; empty for one that it does not have.
        gates: by the name of an operation, the direction and the gate, for messages.
        batch: how many sequences run beside each other.
    """

    steps: tuple[tuple[onnx.NodeProto, ...], ...]
    constants: Mapping[str, Constant]
    inputs: Mapping[int, str]
    outputs: tuple[str, ...]
    gates: Mapping[str, str]
    batch: int

    @property
    def done(self) -> tuple[tuple[str, ...], ...]:
        """What each step makes or reads for the last time, but for the outputs."""
        last = {
            name: k
            for k, step in enumerate(self.steps)
            for node in step
            for name in (*node.output, *node.input)
        }
        found: list[list[str]] = [[] for _ in self.steps]
        for name in last.keys() - set(self.outputs):
            found[last[name]].append(name)
        return tuple(map(tuple, found))


def unroll(node: onnx.NodeProto, operands: Operands, opset: int, name: str) -> Unrolled:
    """Unroll a recurrent node.

    Args:
        node: an LSTM, GRU or RNN.
        operands: what is known of its inputs.
        opset: version of the operator set.
        name: from which the names of its operations are derived.

    Raises:
        UnrollingError: it has a form that is not supported.
    """
    if opset < OLDEST:
        raise UnrollingError(f"it has another meaning before opset {OLDEST}")
    return _Unrolling(node, operands, opset, name).result()


class _Unrolling:
    """One recurrent node."""

    def __init__(self, node: onnx.NodeProto, operands: Operands, opset: int, name: str) -> None:
        self.node, self.operands = node, operands
        self.layer = layer_of(node, operands, opset, name)
        weights = {self.layer.at(*key): value for key, value in self.layer.weights.items()}
        self.notes = Notes(self.layer, dict(weights))
        self.inputs: dict[int, str] = {0: f"{name}/X"}

    def result(self) -> Unrolled:
        """Write all steps."""
        layer, notes = self.layer, self.notes
        steps: list[tuple[onnx.NodeProto, ...]] = []
        sequences: list[list[str]] = []
        last: list[State] = []
        for d, direction in enumerate(layer.directions):
            state, begin = self._initial(d, direction)
            run = range(layer.steps)
            outputs: dict[int, str] = {}
            for number, t in enumerate(run if direction == "forward" else reversed(run)):
                step = Step(notes, direction, f"{layer.name}/{direction}/{t}", begin if not number else [])
                state = write_step(step, self._given(step, t), state)
                outputs[t] = str(state[0])
                steps.append(tuple(step.nodes))
            sequences.append([outputs[t] for t in run])
            last.append(state)
        joined, outputs_of = self._joined(sequences, last)
        return Unrolled((*steps, joined), notes.constants, self.inputs, outputs_of, notes.gates, layer.batch)

    def _given(self, step: Step, t: int) -> str:
        """Return the inputs of one step, (batch, size)."""
        layer = self.layer
        step.gate = "x"
        if layer.length == 1:
            return step.node("Reshape", "", self.inputs[0], self.notes.integers(layer.batch, layer.size))
        name = f"{layer.name}/step {t}"
        self.notes.constants[name] = np.array(t, np.int64)
        return step.node("Gather", "", self.inputs[0], name, axis=1 if layer.batchwise else 0)

    def _initial(self, d: int, direction: str) -> tuple[State, list[onnx.NodeProto]]:
        """Return the states before the first step, and the operations that choose them."""
        layer, notes = self.layer, self.notes
        word = f"{direction}, " * (len(layer.directions) > 1)
        nodes: list[onnx.NodeProto] = []
        found: list[str | None] = []
        for position, what in ((5, "h"), (6, "c"))[: 2 if layer.kind == "LSTM" else 1]:
            name = f"{layer.name}/{direction}/initial.{what}"
            value = self.operands.constants.get(position)
            if position in self.operands.given:
                self.inputs[position] = f"{layer.name}/initial.{what}"
                given = self.inputs[position]
                if len(layer.directions) == 1:
                    shape = notes.integers(layer.batch, layer.hidden)
                    nodes.append(helper.make_node("Reshape", [given, shape], [name], name))
                else:
                    which = f"{layer.name}/direction {d}"
                    notes.constants[which] = np.array(d, np.int64)
                    axis = int(layer.batchwise)
                    nodes.append(helper.make_node("Gather", [given, which], [name], name, axis=axis))
                notes.gates[name] = f"{word}initial state"
                found.append(name)
            elif value is None or not np.any(value):
                found.append(None)
            else:
                notes.constants[name] = self._rows(np.asarray(value), d)
                found.append(name)
        return (found[0], found[1] if len(found) > 1 else None), nodes

    def _rows(self, value: Constant, d: int) -> Constant:
        """Return the initial state of one direction, (batch, units)."""
        layer = self.layer
        if layer.batchwise and value.ndim == 3:
            value = value.swapaxes(0, 1)
        if value.ndim != 3 or value.shape[::2] != (len(layer.directions), layer.hidden):
            raise UnrollingError(f"its initial state {value.shape} does not fit its weights")
        rows = value[d]
        if len(rows) != layer.batch and (rows != rows[:1]).any():
            raise UnrollingError("its initial state differs from row to row")
        return rows if len(rows) == layer.batch else np.repeat(rows[:1], layer.batch, axis=0)

    def _joined(
        self, sequences: Sequence[Sequence[str]], last: Sequence[State]
    ) -> tuple[tuple[onnx.NodeProto, ...], tuple[str, ...]]:
        """Return the operations that join the results, and their names."""
        layer, notes = self.layer, self.notes
        nodes: list[onnx.NodeProto] = []

        def node(op: str, what: str, *inputs: str, **attributes: Any) -> str:
            name = f"{layer.name}/{what}"
            nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
            notes.gates[name] = "result"
            return name

        outputs = [*self.node.output, "", "", ""][: 3 if layer.kind == "LSTM" else 2]
        found = ["", "", ""]
        front = (layer.batch, 1) if layer.batchwise else (1, layer.batch)
        if outputs[0]:
            time, side = (1, 2) if layer.batchwise else (0, 1)
            sizes = (
                (layer.batch, 1, 1, layer.hidden) if layer.batchwise else (1, 1, layer.batch, layer.hidden)
            )
            one = notes.integers(*sizes)
            rest = layer.length - layer.steps
            sides = []
            for direction, names in zip(layer.directions, sequences, strict=True):
                rows = [node("Reshape", f"{direction}/{t}/row", name, one) for t, name in enumerate(names)]
                if rest:
                    shape = list(sizes)
                    shape[time] = rest
                    silent = f"{layer.name}/silent"
                    notes.constants[silent] = np.zeros(shape, np.float32)
                    rows.append(silent)
                sides.append(
                    rows[0] if len(rows) == 1 else node("Concat", f"{direction}/rows", *rows, axis=time)
                )
            found[0] = sides[0] if len(sides) == 1 else node("Concat", "Y", *sides, axis=side)
        for place, output in enumerate(outputs[1:]):
            if not output:
                continue
            what = "hc"[place]
            shape_of_state = notes.integers(*front, layer.hidden)
            states = [
                node("Reshape", f"{direction}/last.{what}", str(state[place]), shape_of_state)
                for direction, state in zip(layer.directions, last, strict=True)
            ]
            axis = 1 if layer.batchwise else 0
            found[1 + place] = (
                states[0] if len(states) == 1 else node("Concat", f"Y_{what}", *states, axis=axis)
            )
        return tuple(nodes), tuple(found)
