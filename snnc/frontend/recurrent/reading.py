"""Reading recurrent nodes: their steps, one after the other, as the operations that they become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import onnx

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.frontend.environment import UNKNOWN, Environment, Tensor, Unknown
from snnc.frontend.recurrent.layer import Operands, UnrollingError
from snnc.frontend.recurrent.unrolling import Unrolled, unroll
from snnc.frontend.refusals import RefusalError, refuse
from snnc.frontend.simplify import label
from snnc.frontend.stand_ins import stand_ins
from snnc.frontend.views import View

MOST_STEPPED = 200_000
"""Most operations of all steps of recurrent nodes."""


class RecurrentReader:
    """Reads the recurrent nodes of one model."""

    def __init__(self, environment: Environment, walk: Callable[[Iterable[onnx.NodeProto]], bool]) -> None:
        """Begin.

        Args:
            environment: the state of the walk.
            walk: reads nodes in order; whether it came to its end.
        """
        self._env = environment
        self._walk = walk
        self._stepped = 0

    def read(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Read an LSTM, GRU or RNN step by step, up to the first that cannot be read.

        Raises:
            RefusalError: it cannot be unrolled.
        """
        if any(isinstance(value, Unknown) for value in operands):
            return (UNKNOWN,) * len(node.output)
        return self.walked(node, operands, self._unrolled(node, operands))

    def walked(
        self, node: onnx.NodeProto, operands: Sequence[Tensor | None], found: Unrolled
    ) -> tuple[Tensor, ...]:
        """Read a node as the operations that it stands for, up to the first step that cannot be read."""
        origin = label(node)
        values, problems, nodes = self._env.values, self._env.problems, self._env.builder.nodes
        entered = {name: operands[place] for place, name in found.inputs.items()}
        inside = {name for step in found.steps for each in step for name in each.output}
        inside |= found.constants.keys() | entered.keys()
        hidden = {name: values[name] for name in inside if name in values}
        values.update(found.constants)
        values.update((name, value) for name, value in entered.items() if value is not None)
        first, known = len(nodes), len(problems)
        for outer, inner in zip(node.output, found.outputs, strict=False):
            self._env.hand_readers(outer, inner)
        for step, done in zip(found.steps, found.done, strict=True):
            self._env.note_readers(step)
            if not self._walk(step):
                raise RefusalError(None)
            if len(problems) > known:
                break
            for name in done:
                values.pop(name, None)
        for name in list(islice(nodes, first, None)):
            nodes[name] = nodes[name].with_(origin=origin)
        results = [values.get(name, UNKNOWN) if name else UNKNOWN for name in found.outputs]
        for name in inside:
            values.pop(name, None)
        values.update(hidden)
        if len(problems) > known:
            told = (_of_gate(each, node, found.gates) for each in problems[known:])
            problems[known:] = dict.fromkeys(told)
            return stand_ins(self._env, node)
        return tuple(value.to(value.index, origin) if isinstance(value, View) else value for value in results)

    def _unrolled(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> Unrolled:
        sequence, origin = operands[0] if operands else None, label(node)
        if not isinstance(sequence, View):
            message = f"{node.op_type}: its sequence does not depend on the network's input"
            refuse(UNSUPPORTED_STRUCTURE, origin, message, "export the model again")
        known = {place: value for place, value in enumerate(operands) if isinstance(value, np.ndarray)}
        given = frozenset(place for place, value in enumerate(operands) if isinstance(value, View) and place)
        try:
            found = unroll(node, Operands(sequence.shape, known, given), self._env.opset, origin)
            if found.batch != 1:
                raise UnrollingError(f"its batch of {found.batch} is not that of the network")
            self._stepped += sum(map(len, found.steps))
            if self._stepped > MOST_STEPPED:
                raise UnrollingError(f"more than {MOST_STEPPED} operations are left of recurrent nodes")
        except UnrollingError as error:
            cure = "export it with constant weights, and with a short sequence of known length"
            refuse(UNSUPPORTED_ATTRIBUTE, origin, f"{node.op_type}: {error}", cure)
        return found


def _of_gate(found: Diagnostic, node: onnx.NodeProto, gates: Mapping[str, str]) -> Diagnostic:
    """Return a finding at an operation of a recurrent node as one of the node, with the gate's name."""
    message = f"{node.op_type}: {gates.get(found.node, 'result')}: {found.message}"
    return replace(found, message=message, node=label(node))
