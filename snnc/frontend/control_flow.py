"""If, Loop and Scan whose conditions and lengths are known: the branch taken, and the body once a trip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE
from snnc.frontend import reshaping
from snnc.frontend.call import Call, Value
from snnc.frontend.environment import UNKNOWN, Environment, Tensor, Unknown
from snnc.frontend.refusals import RefusalError, refuse
from snnc.frontend.scanning import scan_of
from snnc.frontend.simplify import constants_of, label, sort_nodes
from snnc.frontend.views import View
from snnc.ir.graph import Shape

MOST_UNROLLED = 20_000
"""Most operations inside the branches and loops of a network, each trip counted."""


class ControlFlow:
    """Reads operators that hold graphs of their own."""

    def __init__(self, environment: Environment, walk: Callable[[Iterable[onnx.NodeProto]], bool]) -> None:
        """Begin.

        Args:
            environment: the state of the walk.
            walk: reads nodes in order; whether it came to its end.
        """
        self._env = environment
        self._walk = walk
        self._unrolled = 0

    def read(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...] | None:
        """Read an If, Loop or Scan; ``None`` for any other node, and for one that depends on the input.

        Raises:
            RefusalError: its body does not fit it, or too much is left of it.
        """
        match node.op_type:
            case "If" if isinstance(operands[0], np.ndarray):
                return self._branch(node, _condition(node, operands[0]))
            case "Loop" if _is_unrolled(operands):
                return self._loop(node, operands)
            case "Scan" if self._env.opset >= 9:
                return self._scan(node, operands)
            case _:
                return None

    def _branch(self, node: onnx.NodeProto, condition: bool) -> tuple[Tensor, ...]:
        """Read the one branch of an If that is taken."""
        wanted = "then_branch" if condition else "else_branch"
        graph = next(a.g for a in node.attribute if a.name == wanted)
        if len(graph.output) != len(node.output):
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), "If: its branch does not fit it", "export it again")
        for outer, inner in zip(node.output, graph.output, strict=False):
            self._env.hand_readers(outer, inner.name)
        return self._subgraph(graph, {})

    def _loop(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Read a Loop whose number of trips is known, once for each trip."""
        body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
        state: list[Tensor | None] = list(operands[2:])
        if len(body.input) != len(state) + 2 or len(body.output) != len(node.output) + 1:
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), "Loop: its body does not fit it", "export it again")
        self._env.note_readers(body.node)
        for outer, given, made in zip(node.output, body.input[2:], body.output[1:], strict=False):
            self._env.hand_readers(outer, made.name)
            self._env.hand_readers(given.name, made.name)
        if _trips(operands[0]) != math.inf and _trips(operands[0]) * len(body.node) > MOST_UNROLLED:
            _refuse_unrolling(label(node))
        scanned: list[list[Tensor]] = [[] for _ in node.output[len(state) :]]
        trip, going = 0, _condition(node, operands[1])
        while going and trip < _trips(operands[0]):
            entered = (np.array(trip, np.int64), np.array(True), *state)
            given = {value.name: value_ for value, value_ in zip(body.input, entered, strict=True)}
            again, *results = self._subgraph(body, given)
            going = _condition(node, again)
            state = list(results[: len(state)])
            for rows, row in zip(scanned, results[len(state) :], strict=True):
                rows.append(row)
            trip += 1
        ended = (UNKNOWN if value is None else value for value in state)
        return (*ended, *(self._stacked(node, rows) for rows in scanned))

    def _scan(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Read a Scan once for each entry of what it goes through."""
        form = scan_of(node, [_shape_of(value) for value in operands])
        if form is None or any(isinstance(value, Unknown | None) for value in operands):
            return (UNKNOWN,) * len(node.output)
        if form.trips * len(form.body.node) > MOST_UNROLLED:
            _refuse_unrolling(label(node), "Scan")
        self._env.note_readers(form.body.node)
        for outer, made in zip(node.output, form.body.output, strict=True):
            self._env.hand_readers(outer, made.name)
        state: list[Tensor | None] = list(operands[: form.states])
        rows: list[list[Tensor]] = [[] for _ in form.gives]
        for trip in range(form.trips):
            parts = [
                _entry(value, form.place(way, trip), way.axis)
                for value, way in zip(operands[form.states :], form.takes, strict=True)
            ]
            entered = dict(zip((value.name for value in form.body.input), (*state, *parts), strict=True))
            results = self._subgraph(form.body, entered)
            state = list(results[: form.states])
            for row, result in zip(rows, results[form.states :], strict=True):
                row.append(result)
        ended = (UNKNOWN if value is None else value for value in state)
        given = (
            _moved(node, self._stacked(node, row[::-1] if way.is_reversed else row), way.axis)
            for row, way in zip(rows, form.gives, strict=True)
        )
        return (*ended, *given)

    def _subgraph(self, graph: onnx.GraphProto, given: Mapping[str, Tensor | None]) -> tuple[Tensor, ...]:
        """Read a graph inside a node once, and return its outputs; its names are gone afterwards."""
        self._unrolled += len(graph.node)
        if self._unrolled > MOST_UNROLLED:
            _refuse_unrolling(graph.name)
        inside = {name for node in graph.node for name in node.output}
        stored = constants_of(graph, self._env.where)
        hidden = {
            name: self._env.values[name]
            for name in inside | stored.keys() | given.keys()
            if name in self._env.values
        }
        self._env.values.update(stored)
        self._env.values.update({name: value for name, value in given.items() if value is not None})
        if not given:
            self._env.note_readers(graph.node)
        if not self._walk(sort_nodes(graph.node, self._env.where)):
            raise RefusalError(None)
        results = tuple(self._env.values.get(value.name, UNKNOWN) for value in graph.output)
        for name in inside | stored.keys() | given.keys():
            self._env.values.pop(name, None)
        self._env.values.update(hidden)
        return results

    def _stacked(self, node: onnx.NodeProto, rows: Sequence[Tensor]) -> Tensor:
        """Return the values of all trips of a Loop, one behind the other along a new first axis."""
        if not rows:
            refuse(
                UNSUPPORTED_STRUCTURE,
                label(node),
                f"{node.op_type}: an output is empty",
                "export the model without loops",
            )
        known = [row for row in rows if not isinstance(row, Unknown)]
        if len(known) < len(rows):
            return UNKNOWN
        constants = [row for row in known if isinstance(row, np.ndarray)]
        if len(constants) == len(known) and len({row.shape for row in constants}) == 1:
            return np.stack(constants)
        parts = tuple(row[None] if isinstance(row, np.ndarray) else _raised(node, row) for row in known)
        joined = helper.make_node("Concat", [], [label(node)], label(node), axis=0)
        return reshaping.concat(Call(joined, self._env.opset, parts, self._env.builder, None, ((),)))


def _is_unrolled(operands: Sequence[object]) -> bool:
    """Say whether trips and first condition of a Loop are known, and one of them ends it."""
    known = [value is None or (isinstance(value, np.ndarray) and value.size == 1) for value in operands[:2]]
    return len(known) == 2 and all(known)


def _trips(value: object) -> float:
    """Return how often a Loop runs at most."""
    return int(value.ravel()[0]) if isinstance(value, np.ndarray) else math.inf


def _condition(node: onnx.NodeProto, value: object) -> bool:
    """Return a condition that is known; one that is left out holds.

    Raises:
        RefusalError: it depends on the input, or is not one value.
    """
    if value is None:
        return True
    if not isinstance(value, np.ndarray) or value.size != 1:
        message = f"{node.op_type}: its condition depends on the network's input"
        refuse(UNSUPPORTED_STRUCTURE, label(node), message, "export the model with fixed shapes")
    return bool(value.all())


def _shape_of(value: object) -> Shape | None:
    return value.shape if isinstance(value, View | np.ndarray) else None


def _entry(value: Tensor | None, place: int, axis: int) -> Tensor | None:
    """Return one entry along an axis; of a vector an array of no axes, which is no number of Python."""
    if isinstance(value, View):
        return value.to(np.asarray(np.take(value.index, place, axis)), value.origin)
    return np.asarray(np.take(value, place, axis)) if isinstance(value, np.ndarray) else value


def _moved(node: onnx.NodeProto, value: Tensor, axis: int) -> Tensor:
    """Return a tensor whose first axis is moved to a place."""
    rank = len(_shape_of(value) or ())
    if rank <= axis and not isinstance(value, Unknown):
        message = f"{node.op_type}: the axis {axis} does not fit the rank {rank}"
        refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model again")
    if isinstance(value, View):
        return value.to(np.moveaxis(value.index, 0, axis), value.origin)
    return np.moveaxis(value, 0, axis) if isinstance(value, np.ndarray) else value


def _raised(node: onnx.NodeProto, value: Value) -> View:
    """Return activations with a new first axis."""
    if not isinstance(value, View):
        message = f"{node.op_type}: it gives no activations"
        refuse(UNSUPPORTED_STRUCTURE, label(node), message, "export it without loops")
    return value.to(value.index[None], value.origin)


def _refuse_unrolling(origin: str, kind: str = "Loop") -> NoReturn:
    message = f"{kind}: more than {MOST_UNROLLED} operations are left when it is unrolled"
    refuse(UNSUPPORTED_STRUCTURE, origin, message, "export the model without loops")
