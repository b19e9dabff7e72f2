"""Products of activations: gates, squeeze and excitation, quotients, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.arranging import broadcast_shape, together
from snnc.frontend.call import Call
from snnc.frontend.views import Index, View, row_major
from snnc.ir import ann
from snnc.ir.graph import Shape

RECIPROCAL = "Reciprocal(x)"
"""The program of what a divisor is multiplied by."""

_KEEP_ROWS = "keep the batch in front of both"


def product(call: Call, first: View, second: View) -> View:
    """Multiply two tensors that broadcast."""
    names, shape, index = together(call, (first, second))
    if names[0] in call.builder.doubtful:
        return call.builder.stand_in_view(index.shape, call.origin)
    node = ann.Product(name=call.name, inputs=names, shape=shape, origin=call.origin)
    return View(call.builder.emit(node), index, call.origin)


def quotient(call: Call, first: View, second: View) -> View:
    """Divide two tensors that broadcast: a product with the reciprocal of the second."""
    return product(call, first, reciprocal(call, second))


def reciprocal(call: Call, view: View) -> View:
    """Return 1 / x of a tensor, each value by itself."""
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(view.shape, call.origin)
    call.builder.refuse_lowest(view, call.origin)
    settled = call.builder.settle(view, call.origin)
    if (settled.index < 0).any():
        call.refuse("divides by zeros that pad", "pad behind the division")
    node = ann.Pointwise(
        name=f"{call.name}.reciprocal",
        inputs=(settled.node,),
        shape=call.builder.shape(settled.node),
        origin=call.origin,
        program=RECIPROCAL,
        constants=np.zeros((0, 1), np.float32),
    )
    return View(call.builder.emit(node), settled.index, call.origin)


def matrix_product(call: Call, first: View, second: View) -> View:
    """Multiply matrices along the last two axes of two tensors, as MatMul does."""
    a, b = first.index, second.index
    if not a.ndim or not b.ndim:
        call.refuse("one of its operands is one number, no matrix", "multiply by Mul")
    if call.batch != 1 and (min(a.ndim, b.ndim) < 3 or a.ndim != b.ndim):
        call.refuse(
            f"multiplies matrices {first.shape} and {second.shape}, which mixes rows",
            _KEEP_ROWS,
            UNSUPPORTED_STRUCTURE,
        )
    a, b = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    front = broadcast_shape(call, [a.shape[:-2], b.shape[:-2]])
    if a.shape[-1] != b.shape[-2]:
        call.refuse(f"matrices {first.shape} and {second.shape} do not fit", "export the model again")
    ends = [n for n, view in ((a.shape[-2], first), (b.shape[-1], second)) if len(view.shape) > 1]
    a = np.broadcast_to(a, (*front, *a.shape[-2:])).reshape(-1, *a.shape[-2:])
    b = np.broadcast_to(b, (*front, *b.shape[-2:])).reshape(-1, *b.shape[-2:])
    found = _multiplied(call, first.to(a, first.origin), second.to(b, second.origin))
    return call.reshaped(found, (*front, *ends))


def _multiplied(call: Call, first: View, second: View) -> View:
    """Multiply (matrices, i, k) by (matrices, k, j), in the form that moves the fewest values."""
    shape = (*first.shape[:-1], second.shape[-1])
    if {first.node, second.node} & call.builder.doubtful:
        return call.builder.stand_in_view(shape, call.origin)
    for view in (first, second):
        call.builder.refuse_lowest(view, call.origin)
        call.builder.want(view.node, None)
    turned = [view.to(view.index.swapaxes(1, 2), view.origin) for view in (first, second)]
    # (a b)^T = b^T a^T, and the second factor may be given transposed.
    forms = [
        (first, second, False, False),
        (first, turned[1], True, False),
        (turned[1], turned[0], False, True),
        (turned[1], first, True, True),
    ]
    left, right, transposed, swapped = min(
        forms, key=lambda form: sum(call.builder.routes.moves(view.node, view.index) for view in form[:2])
    )
    names = tuple(call.builder.routes.node(view.node, view.index, view.origin) for view in (left, right))
    made: Shape = (shape[0], shape[2], shape[1]) if swapped else shape
    node = ann.MatrixProduct(
        name=call.name, inputs=names, shape=made, origin=call.origin, transposed=transposed
    )
    index = row_major(made)
    return View(call.builder.emit(node), index.swapaxes(1, 2) if swapped else index, call.origin)


def contraction(call: Call, views: Sequence[View], terms: Sequence[str], result: str) -> View:
    """Multiply two tensors and sum, as Einsum says it; see :mod:`snnc.frontend.einsum`.

    Args:
        call: the operation.
        views: two tensors.
        terms: the labels of their axes, each once.
        result: those of the result.

    Raises:
        RefusalError: it sums an axis of one of them alone, or mixes rows.
    """
    (a, b), (first, second) = terms, views
    sizes = dict(zip(a, first.shape, strict=True))
    for label, n in zip(b, second.shape, strict=True):
        sizes[label] = max(n, sizes.get(label, n))
    if any(
        sizes[k] != n
        for term, view in zip(terms, views, strict=True)
        for k, n in zip(term, view.shape, strict=True)
    ):
        call.refuse(f"{first.shape} and {second.shape} do not fit its equation", "export the model again")
    alone = [k for k in sizes if k not in result and not (k in a and k in b)]
    if alone:
        call.refuse(
            f"sums the axes {', '.join(alone)} of one operand alone",
            "sum them by ReduceSum in front of it",
        )
    if call.batch != 1 and not (a[0] == b[0] == result[:1]):
        call.refuse("moves or sums the batch", _KEEP_ROWS)
    shared = [k for k in result if k in a and k in b]
    summed = [k for k in a if k in b and k not in result]
    rows, columns = ([k for k in result if k in own and k not in other] for own, other in ((a, b), (b, a)))
    if not summed:
        spread = [_spread(view, term, result) for view, term in zip(views, terms, strict=True)]
        return product(call, *spread)

    def stacked(view: View, term: str, *parts: Sequence[str]) -> View:
        order = [term.index(k) for part in parts for k in part]
        counts = [math.prod(sizes[k] for k in part) for part in parts]
        return view.to(view.index.transpose(order).reshape(counts), view.origin)

    made = _multiplied(
        call, stacked(first, a, shared, rows, summed), stacked(second, b, shared, summed, columns)
    )
    found = [*shared, *rows, *columns]
    index: Index = made.index.reshape([sizes[k] for k in found])
    return View(made.node, index.transpose([found.index(k) for k in result]), call.origin)


def _spread(view: View, term: str, result: str) -> View:
    """Return a tensor with the axes of a result in their order, of size 1 where it has none."""
    index = view.index.transpose([term.index(k) for k in result if k in term])
    sizes = iter(index.shape)
    return view.to(index.reshape([next(sizes) if k in term else 1 for k in result]), view.origin)
