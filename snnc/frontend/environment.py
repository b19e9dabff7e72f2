"""What is known of tensors while a graph is read, and what has been found wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from snnc.diagnostics import Diagnostic
from snnc.frontend.batch import Rows
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Value
from snnc.frontend.quantised.codes import Codes
from snnc.frontend.signature import Signature
from snnc.frontend.simplify import reads
from snnc.frontend.tensors import Constant
from snnc.ir.graph import FloatArray


class Unknown:
    """What an operation gives that could not be read."""


UNKNOWN = Unknown()

Tensor = Value | Unknown
"""What a tensor is, as far as it is known."""


class Environment:
    """The state of a walk over a graph.

    Attributes:
        where: the file, for messages.
        signature: what the ONNX model says.
        rows: where the rows of a batch lie.
        opset: version of the default domain.
        builder: the network in the making.
        values: every tensor that is known, by name.
        codes: of quantised tensors, what their integers stand for.
        scales: of constants, the numbers, one per element, of which their elements are integer multiples.
        readers: the nodes that read each tensor; the network's own output is a ``None``.
        whole: tensors of integers that depend on the network's input.
        problems: why the graph cannot be converted, so far.
        approximated: what is converted and is not exactly the same.
        imprecise: operations that compute in another precision, and which.
    """

    def __init__(
        self,
        where: str,
        signature: Signature,
        rows: Rows,
        builder: GraphBuilder,
        constants: Mapping[str, Constant],
    ) -> None:
        """Begin with the constants of the file."""
        self.where = where
        self.signature = signature
        self.rows = rows
        self.opset = signature.opset
        self.builder = builder
        self.values: dict[str, Tensor] = dict(constants)
        self.codes: dict[str, Codes] = {}
        self.scales: dict[str, FloatArray] = {}
        self.readers: dict[str, list[onnx.NodeProto | None]] = {}
        self.whole = {given.name for given in signature.inputs if np.dtype(given.dtype).kind in "iu"}
        self.problems: list[Diagnostic] = []
        self.approximated: list[Diagnostic] = []
        self.imprecise: list[tuple[str, str]] = []

    def constant(self, name: str) -> Constant | None:
        """Return a tensor that does not depend on the network's input; ``None`` for any other."""
        value = self.values.get(name)
        return value if isinstance(value, np.ndarray) else None

    def constants(self, nodes: Iterable[onnx.NodeProto]) -> dict[str, Constant]:
        """Return the constants that nodes read, by name."""
        names = {name for node in nodes for name in node.input if name}
        return {name: value for name in names if (value := self.constant(name)) is not None}

    def note_readers(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Note what nodes read."""
        for node in nodes:
            for name in dict.fromkeys(reads(node)):
                self.readers.setdefault(name, []).append(node)

    def hand_readers(self, outer: str, inner: str) -> None:
        """Note that what reads a tensor reads also the one inside that it is made from."""
        if outer and inner != outer:
            self.readers.setdefault(inner, []).extend(self.readers.get(outer, ()))
