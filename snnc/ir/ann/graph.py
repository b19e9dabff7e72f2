"""The ANN network: a graph of analogue operations."""

from __future__ import annotations

from snnc.ir.ann.activations import Levelled, Relu, Softmax
from snnc.ir.ann.functions import MaxPool
from snnc.ir.ann.node import AnnNode
from snnc.ir.graph import Graph


class AnnGraph(Graph[AnnNode]):
    """A feed-forward network of analogue activations."""

    def without_thresholds(self) -> AnnGraph:
        """Return what the source network computes: no clip of the conversion's own."""
        return self.map(
            Relu,
            lambda node: node if node.threshold is None else node.with_(threshold=None, floor=None),
        ).map(Levelled, lambda node: node.without_levels())

    @property
    def logits(self) -> str:
        """Name of the node that gives the answers before a final softmax."""
        return self.before_softmax(self.output)

    @property
    def answers(self) -> dict[str, str]:
        """For each output, by its name, the node that gives its values before a final softmax."""
        return {
            name: self.before_softmax(node)
            for name, node in zip(self.output_names, self.outputs, strict=True)
        }

    def before_softmax(self, name: str) -> str:
        """Return the name of the node that a softmax reads, or of the node itself where it is none."""
        node = self[name]
        return node.inputs[0] if isinstance(node, Softmax) else node.name

    def seen_as(self, name: str) -> str:
        """Return what holds all that others see of a value: the max-pool that alone reads it, or itself.

        Args:
            name: of the node that gives the value.
        """
        reader = self.consumers[name][0] if self.read_once(name) else None
        return reader.name if isinstance(reader, MaxPool) else name
