"""The inputs and outputs of an ONNX model: names, types, sizes and the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from snnc.diagnostics import DYNAMIC_SHAPE, NO_INPUT_OR_OUTPUT, OPSET, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.refusals import MAX_VALUES
from snnc.frontend.simplify import NEWEST_OPSET, OLDEST_OPSET
from snnc.ir.graph import Shape


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An input of a model.

    Attributes:
        name: of the input.
        dtype: its type, as NumPy calls it.
        shape: of one sample.
    """

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a network.

    Attributes:
        inputs: the ONNX inputs, in order.
        batch: the batch size that the file fixes; ``None`` if it is free.
        outputs: names of the ONNX outputs, in order.
        opset: version of the default operator set.
    """

    inputs: tuple[ModelInput, ...]
    batch: int | None
    outputs: tuple[str, ...]
    opset: int


def signature_of(model: onnx.ModelProto, problems: list[Diagnostic]) -> Signature | None:
    """Read the inputs and outputs of a model.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it.
        problems: to which everything is added that keeps it from being read at all.

    Returns:
        The signature; ``None`` if there are such problems.
    """
    opset = max((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), default=0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        cure = (
            "export again with opset 13 or newer"
            if opset < OLDEST_OPSET
            else f"install a newer onnx package, or export with opset {NEWEST_OPSET} or older"
        )
        uses = f"uses opset {opset}" if opset else "names no opset"
        message = f"the model {uses}, but {OLDEST_OPSET} to {NEWEST_OPSET} are supported"
        problems.append(Diagnostic(OPSET, message, "", cure))
    inputs, outputs = model.graph.input, model.graph.output
    for values, what in ((inputs, "input"), (outputs, "output")):
        if not values:
            cure = f"export the network with its {what}s"
            problems.append(Diagnostic(NO_INPUT_OR_OUTPUT, f"the model has no {what}", "", cure))
    if not inputs or not outputs or any(problem.code is OPSET for problem in problems):
        return None
    found = [_given(value, problems) for value in inputs]
    names = [value.name for value in outputs]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        cure = "give each output of the model a name of its own"
        problems.append(Diagnostic(NO_INPUT_OR_OUTPUT, f"two outputs are called {name!r}", name, cure))
    batches = {value.name: size for value, size in zip(inputs, map(_batch, inputs), strict=True) if size}
    if len(set(batches.values())) > 1:
        listed = ", ".join(f"{name!r} {size}" for name, size in batches.items())
        message = f"the inputs fix different batch sizes, {listed}: the first size of each must be the batch"
        cure = (
            "export the model with the batch as the first size of every input, or fix all sizes for a batch "
            "of one by --shape"
        )
        problems.append(Diagnostic(DYNAMIC_SHAPE, message, "", cure))
    if problems:
        return None
    return Signature(
        inputs=tuple(value for value in found if value is not None),
        batch=next(iter(batches.values()), None),
        outputs=tuple(names),
        opset=opset,
    )


def _batch(value: onnx.ValueInfoProto) -> int | None:
    """Return the batch size that an input fixes; ``None`` if it is free."""
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_value if dims and dims[0].dim_value > 0 else None


def _given(value: onnx.ValueInfoProto, problems: list[Diagnostic]) -> ModelInput | None:
    """Read what an input takes, noting what keeps it from being read."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    if not _is_numeric(tensor.elem_type):
        cure = "cut the graph with onnx.utils.extract_model after the nodes that read it"
        message = "the input is not a tensor of numbers"
        problems.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, value.name, cure))
        return None
    if (problem := _size_problem(value.name, dims)) is not None:
        problems.append(problem)
        return None
    return ModelInput(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(sizes[1:]))


def _size_problem(name: str, dims: Sequence[onnx.TensorShapeProto.Dimension]) -> Diagnostic | None:
    """Say what keeps the sizes of an input from being those of a batch of rows."""
    known = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    shown = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in dims)
    if len(known) < 2:
        message = f"the input has the shape ({shown}), which has no size for the batch and one for its rows"
        cure = f"export the model with the shape ({shown or 'batch'}, 1)"
        if not known:
            cure = f"give it a value that stays by --fix {name}=VALUE, or {cure}"
        return Diagnostic(DYNAMIC_SHAPE, message, name, cure)
    if min(known[1:]) < 1:
        sizes = [str(size) if size > 0 else _word(d.dim_param) for size, d in zip(known, dims, strict=True)]
        wanted = ",".join([sizes[0] if known[0] > 0 else "1", *sizes[1:]])
        message = f"the input has the shape ({shown}): all sizes but the batch must be known"
        cure = f"fix them with --shape {name}={wanted}, with numbers for words; only the batch may be free"
        return Diagnostic(DYNAMIC_SHAPE, message, name, cure)
    if math.prod(known[1:]) > MAX_VALUES:
        message = f"the input has the shape ({shown}): a row of it has more than {MAX_VALUES} values"
        return Diagnostic(DYNAMIC_SHAPE, message, name, "export the model for smaller inputs")
    return None


def _word(name: str) -> str:
    """Return what stands for a size that is not known in an example."""
    return name.upper() if name.isidentifier() else "SIZE"


def _is_numeric(element: int) -> bool:
    if element in (0, onnx.TensorProto.STRING) or element not in onnx.TensorProto.DataType.values():
        return False
    return helper.tensor_dtype_to_np_dtype(element).kind in "fiuV"  # V: bfloat16
