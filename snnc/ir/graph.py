"""An immutable graph of named operations in topological order, shared by both dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError, VerificationError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
NumberArray = NDArray[np.integer[Any] | np.floating[Any]]
Shape = tuple[int, ...]
"""Shape of one sample, without the batch: ``(channels, height, width)`` or ``(features,)``."""


@dataclass(frozen=True, slots=True)
class Arity:
    """How many inputs an operation reads: from ``least`` to ``most``, any number for ``None``."""

    least: int
    most: int | None

    def problem(self, count: int) -> str | None:
        """Say why ``count`` inputs are not right."""
        if self.least <= count and (self.most is None or count <= self.most):
            return None
        wanted = {NONE: "no input", ONE: "one input", MANY: "an input", SEVERAL: "two inputs or more"}
        return f"needs {wanted.get(self, self)}, not {count}"


NONE, ONE, TWO = Arity(0, 0), Arity(1, 1), Arity(2, 2)
MANY, SEVERAL = Arity(1, None), Arity(2, None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One operation.

    Class attributes, declared once per operation:
        arity: how many inputs it reads.
        is_input: whether it is what the network is given: the first nodes of a graph, in the source's order.

    Attributes:
        name: unique within the graph.
        inputs: names of the nodes read, in order.
        shape: shape of the output of one sample, without the batch.
        origin: name of the ONNX node that it came from; empty for the network's input.
    """

    arity: ClassVar[Arity] = ONE
    is_input: ClassVar[bool] = False

    name: str
    inputs: tuple[str, ...] = ()
    shape: Shape = ()
    origin: str = ""

    def __post_init__(self) -> None:
        """Freeze array fields, so that a shared weight cannot change behind a pass's back."""
        for field in self.__dataclass_fields__:
            value = getattr(self, field)
            if isinstance(value, np.ndarray) and value.flags.writeable:
                frozen = np.ascontiguousarray(value).view()
                frozen.flags.writeable = False
                object.__setattr__(self, field, frozen)

    @property
    def channels(self) -> int:
        """Number of channels, or of features where the output is flat."""
        return self.shape[0]

    @property
    def earlier(self) -> tuple[str, ...]:
        """Names of the nodes of whose earlier steps it reads; they may come later in the graph."""
        return ()

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Say what is wrong with this node, or return ``None``.

        Args:
            input_shapes: of its inputs, as many as its ``arity`` allows.
        """
        raise NotImplementedError

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


N = TypeVar("N", bound=Node)
M = TypeVar("M", bound=Node)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph(Generic[N]):
    """Nodes in topological order, the inputs first; ``outputs`` names the results.

    Attributes:
        name: what the network is called in messages and reports.
        nodes: the operations, each after all that it reads; an input bears the name that the source gives it.
        outputs: names of the nodes whose values the network returns, in the source's order. A source may
            return a value twice.
        output_names: what the source calls its outputs, in that order; the names of the nodes by default.
    """

    name: str
    nodes: tuple[N, ...]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Call outputs like their nodes where they have no names of their own."""
        if not self.output_names:
            object.__setattr__(self, "output_names", self.outputs)

    def __iter__(self) -> Iterator[N]:
        """Iterate over the nodes in topological order."""
        return iter(self.nodes)

    def __getitem__(self, name: str) -> N:
        """Return the node called ``name``.

        Raises:
            KeyError: no node has that name.
        """
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        """Say whether a node has that name."""
        return name in self._by_name

    @cached_property
    def inputs(self) -> tuple[N, ...]:
        """What the network is given, in the source's order."""
        return tuple(node for node in self.nodes if node.is_input)

    @property
    def input(self) -> N:
        """The one node that the network is given.

        Raises:
            UsageError: there are several.
        """
        if len(self.inputs) != 1:
            listed = ", ".join(repr(node.name) for node in self.inputs)
            raise UsageError(f"{self.name} has {len(self.inputs)} inputs ({listed}), and this takes one")
        return self.inputs[0]

    @property
    def output(self) -> str:
        """Name of the one node whose value the network returns.

        Raises:
            UsageError: there are several.
        """
        if len(self.outputs) != 1:
            listed = ", ".join(map(repr, self.output_names))
            raise UsageError(
                f"{self.name} has {len(self.outputs)} outputs ({listed}), and this takes one: convert it "
                "with --keep-output NAME"
            )
        return self.outputs[0]

    @cached_property
    def _by_name(self) -> dict[str, N]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[str, tuple[N, ...]]:
        """For each node, the nodes that read it, in order."""
        found: dict[str, list[N]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *node.earlier)):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def read_once(self, name: str) -> bool:
        """Whether one node reads a value, and the network does not return it."""
        return len(self.consumers[name]) == 1 and name not in self.outputs

    def of_type(self, kind: type[M]) -> tuple[M, ...]:
        """Return the nodes of one type, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    def map(self, kind: type[M], function: Callable[[M], N]) -> Self:
        """Replace every node of one type by ``function(node)``.

        Returns:
            The same graph object when ``function`` returned every node unchanged.
        """
        nodes = tuple(function(node) if isinstance(node, kind) else node for node in self.nodes)
        return self.with_nodes(nodes)

    def replacing(self, changed: Mapping[str, N]) -> Self:
        """Return a graph in which the nodes named in ``changed`` are replaced."""
        return self.with_nodes([changed.get(node.name, node) for node in self.nodes])

    def with_nodes(self, nodes: Sequence[N], outputs: tuple[str, ...] | None = None) -> Self:
        """Return a graph with other nodes, or this one where they are the same objects.

        Args:
            nodes: of the graph.
            outputs: the nodes whose values are returned now, one for each output; the same by default.
        """
        outputs = self.outputs if outputs is None else outputs
        same = len(nodes) == len(self.nodes) and all(
            new is old for new, old in zip(nodes, self.nodes, strict=True)
        )
        if same and outputs == self.outputs:
            return self
        return replace(self, nodes=tuple(nodes), outputs=outputs)

    def ancestors(
        self, names: Sequence[str], stop: frozenset[str] = frozenset(), *, within_step: bool = False
    ) -> frozenset[str]:
        """Return ``names`` and all that they depend on, not looking past the nodes in ``stop``.

        Args:
            names: of nodes.
            stop: likewise.
            within_step: look at what nodes read of their own step alone.
        """
        seen: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name not in stop:
                pending.extend(self[name].inputs)
                pending.extend(() if within_step else self[name].earlier)
        return frozenset(seen)

    def verify(self) -> None:
        """Check names, order and every node.

        Raises:
            VerificationError: naming the node and what is wrong with it.
        """
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            where = f"{self.name}: {type(node).__name__} {node.name!r}"
            if node.name in shapes:
                raise VerificationError(f"{where}: a second node has this name")
            for name in node.inputs:
                if name not in shapes:
                    raise VerificationError(f"{where}: reads {name!r}, which no earlier node provides")
            if not node.shape or any(size < 1 for size in node.shape):
                raise VerificationError(f"{where}: the output shape {node.shape} is empty")
            if node.is_input and not all(self[name].is_input for name in shapes):
                raise VerificationError(f"{where}: the inputs of a network are its first nodes")
            if not node.is_input and not shapes:
                raise VerificationError(f"{where}: a network begins with its input")
            problem = node.arity.problem(len(node.inputs))
            if problem is not None:
                raise VerificationError(f"{where}: {problem}")
            problem = node.verify([shapes[name] for name in node.inputs])
            if problem is not None:
                raise VerificationError(f"{where}: {problem}")
            shapes[node.name] = node.shape
        for node in self.nodes:
            for name in node.earlier:
                if name not in shapes:
                    raise VerificationError(f"{self.name}: {node.name!r} reads {name!r}, which is not there")
        for name in self.outputs:
            if name not in shapes:
                raise VerificationError(f"{self.name}: the output {name!r} is not a node")
        if not self.outputs or len(self.output_names) != len(self.outputs):
            raise VerificationError(
                f"{self.name}: {len(self.outputs)} outputs with {len(self.output_names)} names"
            )
        if len(set(self.output_names)) < len(self.output_names):
            raise VerificationError(f"{self.name}: two outputs have one name: {list(self.output_names)}")
        problem = self.problem()
        if problem is not None:
            raise VerificationError(f"{self.name}: {problem}")

    def problem(self) -> str | None:
        """Say what is wrong with the network as a whole, or return ``None``."""
        return None
