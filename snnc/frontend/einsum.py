"""Einsum of one or two tensors of activations, or of one and a constant, as a product of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.call import Call
from snnc.frontend.products import contraction
from snnc.frontend.sums import weighted
from snnc.frontend.views import View
from snnc.ir.graph import FloatArray, Shape


def einsum(call: Call) -> View:
    """Read Einsum: what both operands share and the result has not is summed."""
    equation = str(call.attribute("equation") or "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or len(terms) != len(call.operands):
        call.refuse(f"the equation {equation!r} is not supported", "write out all axes and the result")
    views = [k for k, value in enumerate(call.operands) if isinstance(value, View)]
    if len(call.operands) > 2:
        call.refuse("has more than two operands", "multiply two at a time", UNSUPPORTED_STRUCTURE)
    if len(views) == 2:
        both = [call.view(k) for k in views]
        _check_terms(call, equation, terms, [view.shape for view in both], right)
        return contraction(call, both, terms, right)
    view, labels = call.view(views[0]), terms[views[0]]
    weight: FloatArray = np.ones((), np.float32)
    own = ""
    if len(call.operands) == 2:
        weight, own = call.weights(1 - views[0], "weight"), terms[1 - views[0]]
    sizes = dict(zip(labels, view.shape, strict=False)) | dict(zip(own, weight.shape, strict=False))
    _check_terms(call, equation, (labels, own), (view.shape, weight.shape), right)
    if call.batch != 1 and (labels[0] in own or not right.startswith(labels[0])):
        call.refuse(f"the equation {equation!r} moves or sums the batch", "keep the batch in front")
    if any(sizes[k] != n for k, n in zip(labels, view.shape, strict=True)):
        call.refuse(f"the equation {equation!r} does not fit {view.shape}", "export the model again")
    alone = [k for k, label in enumerate(own) if label not in labels and label not in right]
    weight = weight.sum(axis=tuple(alone))
    own = "".join(label for k, label in enumerate(own) if k not in alone)
    summed = [label for label in labels if label not in right]
    shared = [label for label in right if label in labels and label in own]
    kept = [label for label in right if label in labels and label not in own]
    new = [label for label in right if label not in labels]
    # What is summed of the activations alone has the weight 1.
    full = (*(sizes[k] for k in shared), *(sizes[k] for k in new), *(sizes[k] for k in summed))
    order = [*(k for k in shared), *(k for k in new), *(k for k in summed if k in own)]
    ordered = np.transpose(weight, [own.index(k) for k in order])
    places = [n if k in own else 1 for k, n in zip([*shared, *new, *summed], full, strict=True)]
    counts = [math.prod(sizes[k] for k in part) for part in (shared, new, summed, kept)]
    matrices = np.broadcast_to(ordered.reshape(places), full).reshape(counts[0], counts[1], counts[2])
    call.builder.want(view.node, None)
    taps = np.transpose(view.index, [labels.index(k) for k in (*shared, *kept, *summed)])
    taps = taps.reshape(counts[0], counts[3], counts[2])
    which = np.broadcast_to(np.arange(counts[0])[:, None], taps.shape[:2])
    result = weighted(call, view, taps, matrices, np.zeros(counts[1], np.float32), which=which)
    found = (*shared, *kept, *new)
    index = result.index.reshape([sizes[k] for k in found])
    return View(result.node, np.transpose(index, [found.index(k) for k in right]), call.origin)


def _check_terms(
    call: Call, equation: str, terms: Sequence[str], shapes: Sequence[Shape], result: str
) -> None:
    """Refuse labels that do not fit the axes of the operands, or that are repeated."""
    ranks = [len(term) == len(shape) for term, shape in zip(terms, shapes, strict=True)]
    if not all(ranks) or not set(result) <= set("".join(terms)):
        call.refuse(f"the equation {equation!r} does not fit its operands", "export the model again")
    if any(len(set(term)) < len(term) for term in (*terms, result)):
        call.refuse(f"the equation {equation!r} takes a diagonal", "gather the diagonal instead")
