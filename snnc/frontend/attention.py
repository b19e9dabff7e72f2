"""Attention as ordinary operations: products of matrices, a softmax, and what moves values between heads.

For each head, with the queries Q, (S, D), the keys K, (L, D), and the values V, (L, E):

    Y = softmax(scale Q K^T + mask) V        scale = 1 / sqrt(D) unless it is given

Read are Attention of ONNX, from opset 23 on, and MultiHeadAttention of onnxruntime. Source: Vaswani et al.,
"Attention Is All You Need", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE
from snnc.frontend.environment import Tensor
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.recurrent.unrolling import Unrolled
from snnc.frontend.refusals import refuse
from snnc.frontend.simplify import label
from snnc.frontend.tensors import Constant
from snnc.frontend.views import View
from snnc.ir.graph import Shape

MASKED = -1e9
"""What is added to the scores of keys that are not to be seen: their weight is 0 in float32."""

MICROSOFT = "com.microsoft"

CURE = "export attention as MatMul, Softmax and MatMul"

PARTS = ("query", "key", "value")

TYPES = {
    **dict.fromkeys(("scale", "softcap", "mask_filter_value"), onnx.AttributeProto.FLOAT),
    **dict.fromkeys(
        ("is_causal", "kv_num_heads", "num_heads", "q_num_heads", "unidirectional"), onnx.AttributeProto.INT
    ),
    **dict.fromkeys(
        ("left_window_size", "right_window_size", "qk_matmul_output_mode", "softmax_precision"),
        onnx.AttributeProto.INT,
    ),
}
"""Attributes and their types. Windows must say nothing; the last two change nothing."""


def is_attention(node: onnx.NodeProto) -> bool:
    """Say whether a node is attention that can be read."""
    if node.domain in DEFAULT_DOMAINS:
        return node.op_type == "Attention"
    return node.domain == MICROSOFT and node.op_type == "MultiHeadAttention"


def attention(node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> Unrolled:
    """Return the operations that a node of attention stands for.

    Args:
        node: as :func:`is_attention` says.
        operands: its inputs, all known.

    Raises:
        RefusalError: it has a form that is not supported.
    """
    writer = _Writer(node, operands)
    writer.require_known()
    if node.domain in DEFAULT_DOMAINS:
        return writer.of_onnx()
    return writer.of_onnxruntime()


@dataclass(frozen=True, slots=True)
class _Heads:
    """A tensor of all heads, (1, heads, rows, size)."""

    name: str
    heads: int
    rows: int
    size: int

    @property
    def sizes(self) -> Shape:
        """Heads, rows and size."""
        return self.heads, self.rows, self.size


@dataclass(slots=True)
class _Writer:
    """Writes the operations of one node."""

    node: onnx.NodeProto
    operands: Sequence[Tensor | None]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    inputs: dict[int, str] = field(default_factory=dict)

    def of_onnx(self) -> Unrolled:
        """Write Attention of ONNX."""
        if self.operand(6) is not None:
            self.refuse("its number of keys without padding is an input")
        flat = len(self.shape(0, "query")) == 3
        count = int(self.attribute("q_num_heads", 0))
        q = self.split(0, "query", count)
        shared = int(self.attribute("kv_num_heads", 0))
        k, v = self.split(1, "key", shared), self.split(2, "value", shared)
        past = self.rows_of_past(4)
        k, v = self.behind_past(k, 4, "key"), self.behind_past(v, 5, "value")
        present = (k.name, v.name)
        masks = [self.mask(3, (q.heads, q.rows, k.rows))]
        if self.attribute("is_causal", 0):
            masks.append(self.causal(q.rows, k.rows, past))
        self.require_outputs(3)
        y = self.attended(q, k, v, masks)
        return self.written(self.joined(y) if flat else y.name, present)

    def of_onnxruntime(self) -> Unrolled:
        """Write MultiHeadAttention of onnxruntime."""
        for place in (8, 9):
            if self.operand(place) is not None:
                self.refuse("its past is kept in a buffer of its own")
        heads = int(self.attribute("num_heads", 0))
        q, k, v = (self.split(part, what, heads, bias=part) for part, what in enumerate(PARTS))
        past = self.rows_of_past(6)
        k, v = self.behind_past(k, 6, "key"), self.behind_past(v, 7, "value")
        present = (k.name, v.name)
        masks = [self.padding(k.rows), self.mask(5, (q.heads, q.rows, k.rows))]
        if self.attribute("unidirectional", 0):
            masks.append(self.causal(q.rows, k.rows, past))
        self.require_outputs(3)
        return self.written(self.joined(self.attended(q, k, v, masks)), present)

    # What the node says

    def refuse(self, what: str) -> NoReturn:
        """Stop reading the node."""
        refuse(UNSUPPORTED_ATTRIBUTE, label(self.node), f"{self.node.op_type}: {what}", CURE)

    def attribute(self, name: str, default: float) -> float:
        """Return a number, or its default."""
        for each in self.node.attribute:
            if each.name == name:
                if each.type != TYPES[name]:
                    self.refuse(f"its attribute {name!r} is of another type")
                return float(helper.get_attribute_value(each))
        return default

    def require_known(self) -> None:
        """Refuse attributes of which it is not known what they mean."""
        for each in self.node.attribute:
            if each.name not in TYPES:
                self.refuse(f"its attribute {each.name!r} is not known")
        if any(self.attribute(f"{side}_window_size", -1) != -1 for side in ("left", "right")):
            self.refuse("each query sees a window of the keys alone")

    def operand(self, place: int) -> Tensor | None:
        """Return an input; ``None`` where it is not given."""
        return self.operands[place] if place < len(self.operands) else None

    def shape(self, place: int, what: str) -> Shape:
        """Return the shape of an input that must be given."""
        found = self.operand(place)
        if found is None:
            self.refuse(f"it has no {what} of its own")
        if not isinstance(found, View | np.ndarray):
            self.refuse(f"its {what} holds no numbers")
        return found.shape

    def require_outputs(self, most: int) -> None:
        """Refuse a node whose scores are an output."""
        if any(self.node.output[most:]):
            self.refuse("its scores are an output")

    # Operations

    def given(self, place: int) -> str:
        """Return what the operations call an input."""
        self.inputs[place] = f"{label(self.node)}/input {place}"
        return self.inputs[place]

    def add(self, op: str, what: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation and return its result."""
        name = f"{label(self.node)}/{what}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def constant(self, what: str, values: Constant) -> str:
        """Return the name of a constant."""
        name = f"{label(self.node)}/{what}"
        self.constants[name] = values
        return name

    def reshape(self, what: str, value: str, *sizes: int) -> str:
        """Return a value in another shape."""
        shape = self.constant(f"{what}.shape", np.array(sizes, np.int64))
        return self.add("Reshape", what, value, shape)

    def split(self, place: int, what: str, heads: int, bias: int | None = None) -> _Heads:
        """Return an input with an axis for its heads; ``bias``: which part of the bias is added to it."""
        shape, value = self.shape(place, what), self.given(place)
        biased = bias is not None and self.operand(3) is not None
        if len(shape) == 4 and shape[0] == 1 and not biased:
            return _Heads(value, *shape[1:])
        if shape[:1] != (1,):
            self.refuse(f"its {what} {shape} differs from row to row")
        if len(shape) != 3 or heads < 1 or shape[2] % heads:
            self.refuse(f"its {what} {shape} has no {heads} heads")
        _, rows, width = shape
        if biased:
            value = self.add("Add", f"{what}.with bias", value, self.bias(bias or 0, width))
        apart = self.reshape(f"{what}.apart", value, 1, rows, heads, width // heads)
        turned = self.add("Transpose", f"{what}.heads", apart, perm=(0, 2, 1, 3))
        return _Heads(turned, heads, rows, width // heads)

    def bias(self, part: int, width: int) -> str:
        """Return a part of the bias of queries, keys and values, which lie in it one behind the other."""
        values = self.operand(3)
        if not isinstance(values, np.ndarray):
            self.refuse("its bias is computed from the network's input")
        first = self.shape(0, "query")[2] * part
        found = values.reshape(-1)[first : first + width] if part < 2 else values.reshape(-1)[-width:]
        if len(found) != width:
            self.refuse(f"its bias {values.shape} does not fit")
        return self.constant(f"bias {part}", found)

    def rows_of_past(self, place: int) -> int:
        """Return how many keys come before those that are given."""
        if self.operand(place) is None:
            return 0
        shape = self.shape(place, "past")
        if len(shape) != 4:
            self.refuse(f"its past {shape} has no four axes")
        return shape[2]

    def behind_past(self, new: _Heads, place: int, what: str) -> _Heads:
        """Return keys or values behind those of the past."""
        if self.operand(place) is None:
            return new
        shape = self.shape(place, "past")
        if len(shape) != 4 or shape != (1, new.heads, shape[2], new.size):
            self.refuse(f"its past {what} {shape} does not fit")
        joined = self.add("Concat", f"{what}.all", self.given(place), new.name, axis=2)
        return _Heads(joined, new.heads, new.rows + shape[2], new.size)

    # Masks

    def mask(self, place: int, scores: Shape) -> str | None:
        """Return what an input adds to the scores, (heads, queries, keys)."""
        found = self.operand(place)
        if found is None:
            return None
        if isinstance(found, View):
            return self.given(place)
        if not isinstance(found, np.ndarray):
            self.refuse("its mask is a comparison that is computed")
        hidden = ~found if found.dtype == np.bool_ else found <= MASKED
        try:
            rows = np.broadcast_to(hidden, (1, *scores))
        except ValueError:
            self.refuse(f"its mask {found.shape} does not fit scores {scores}")
        self.require_visible(rows)
        values = np.where(hidden, MASKED, 0.0 if found.dtype == np.bool_ else found)
        return self.constant("mask", values.astype(np.float32))

    def causal(self, queries: int, keys: int, past: int) -> str:
        """Return the mask of a query that sees the keys of the past and those up to its own."""
        visible = np.arange(keys) <= np.arange(queries)[:, None] + past
        return self.constant("causal", np.where(visible, 0, MASKED).astype(np.float32))

    def padding(self, keys: int) -> str | None:
        """Return the mask of keys that are padding; 0 of the input says which."""
        found = self.operand(4)
        if found is None:
            return None
        if not isinstance(found, np.ndarray) or found.shape != (1, keys):
            self.refuse("its mask of padding is not one constant for each key")
        hidden = found.reshape(1, 1, 1, keys) == 0
        self.require_visible(hidden)
        return self.constant("padding", np.where(hidden, MASKED, 0).astype(np.float32))

    def require_visible(self, hidden: np.ndarray) -> None:
        """Refuse a mask that hides all keys: operators and runtimes answer differently then."""
        if hidden.all(axis=-1).any():
            self.refuse("its mask hides all keys of a query")

    # The equation

    def attended(self, q: _Heads, k: _Heads, v: _Heads, masks: Sequence[str | None]) -> _Heads:
        """Return what the queries find, (1, heads, queries, size of a value)."""
        known = [mask for mask in masks if mask is not None]
        cap = self.attribute("softcap", 0)
        if cap and known:
            self.refuse("its scores are capped and masked, in an order that versions of ONNX say differently")
        if k.heads != v.heads or k.rows != v.rows or q.size != k.size or q.heads % k.heads:
            self.refuse(f"its query, key and value {q.sizes}, {k.sizes}, {v.sizes} do not fit")
        keys, values = (self.repeated(each, q.heads, what) for each, what in ((k, "key"), (v, "value")))
        scale = self.attribute("scale", 0) or 1 / sqrt(q.size)
        scaled = self.add("Mul", "query.scaled", q.name, self.constant("scale", np.array(scale, np.float32)))
        turned = self.add("Transpose", "key.turned", keys, perm=(0, 1, 3, 2))
        scores = self.add("MatMul", "scores", scaled, turned)
        if cap:
            limit = self.constant("cap", np.array(cap, np.float32))
            scores = self.add("Tanh", "capped", self.add("Div", "by cap", scores, limit))
            scores = self.add("Mul", "times cap", scores, limit)
        for number, mask in enumerate(known):
            scores = self.add("Add", f"masked {number}", scores, mask)
        weights = self.add("Softmax", "weights", scores, axis=3)
        return _Heads(self.add("MatMul", "found", weights, values), q.heads, q.rows, v.size)

    def repeated(self, each: _Heads, heads: int, what: str) -> str:
        """Return keys or values once for each head of the queries that shares them."""
        if each.heads == heads:
            return each.name
        which = np.repeat(np.arange(each.heads), heads // each.heads)
        places = self.constant(f"{what}.shared", which.astype(np.int64))
        return self.add("Gather", f"{what}.repeated", each.name, places, axis=1)

    def joined(self, y: _Heads) -> str:
        """Return the results of all heads beside each other, (1, queries, heads x size)."""
        turned = self.add("Transpose", "rows", y.name, perm=(0, 2, 1, 3))
        return self.reshape("joined", turned, 1, y.rows, y.heads * y.size)

    def written(self, y: str, present: tuple[str, str]) -> Unrolled:
        """Return all that was written."""
        outputs = (y, *present)[: max(1, len(self.node.output))]
        kept = tuple(name if outer else "" for name, outer in zip(outputs, self.node.output, strict=False))
        gates = {node.name: node.name.rpartition("/")[2] for node in self.nodes}
        return Unrolled((tuple(self.nodes),), self.constants, self.inputs, kept, gates, 1)
