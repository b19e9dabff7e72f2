"""How many bytes the weights of a network need, stored as few bits as they have.

Each layer takes the smaller of two forms: all weights at their bits, or those that are not zero at their bits
and one bit a weight that says which these are. Thresholds and biases are left out: they are few.
"""

from __future__ import annotations

import numpy as np

from snnc.ir.snn import SnnGraph, Weighted
from snnc.numerics.weight_grid import bits_of


def weight_bytes(graph: SnnGraph) -> int:
    """Return the bytes of all weights."""
    return sum(-(-_bits(node) // 8) for node in graph.of_type(Weighted))


def _bits(node: Weighted) -> int:
    each = bits_of(node.weight) if node.integer else 8 * node.weight.itemsize
    dense = each * node.weight.size
    sparse = each * int(np.count_nonzero(node.weight)) + node.weight.size
    return min(dense, sparse)
