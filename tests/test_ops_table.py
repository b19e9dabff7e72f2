"""The table of operators is true: attributes, operator sets, and what spikes make of each."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from snnc.errors import UnsupportedModelError
from snnc.frontend import attention, legacy, read_onnx, supported_operators
from snnc.frontend.loading import loaded_from
from snnc.frontend.operators import OPERATORS, UNROLLED, operator_of
from snnc.frontend.recurrent.layer import TYPES as ATTRIBUTES
from snnc.frontend.simplify import NEWEST_OPSET, OLDEST_OPSET
from tests.onnx_models import model, node, normal, read_again

WITHOUT_MEANING = {
    "BatchNormalization": {"momentum"},  # of the training
    "Cast": {"round_mode", "saturate"},  # of casts to types of 8 bits
    "ConvTranspose": {"kernel_shape"},  # the weight's own, or runtimes refuse it
    "DequantizeLinear": {"output_dtype"},  # floats all of them
    "Dropout": {"ratio", "seed"},  # of the training
    "GroupNormalization": {"stash_type"},  # the type of what is between
    "LayerNormalization": {"stash_type"},
    "MaxPool": {"storage_order"},  # of the indices, which are refused
    "QuantizeLinear": {"precision", "saturate"},  # of the quotient, and of casts to types of 8 bits
    "RMSNormalization": {"stash_type"},
    "Resize": {"cubic_coeff_a", "exclude_outside", "extrapolation_value"},  # of modes that are refused
    "Split": {"num_outputs"},  # counted from the outputs
    "Upsample": {"height_scale", "width_scale"},  # of opset 1, which is refused
}
READ_OF: dict[str, Collection[str]] = {
    **dict.fromkeys(("Attention", "com.microsoft::MultiHeadAttention"), attention.TYPES),
    "If": {"else_branch", "then_branch"},
    "Loop": {"body"},
    "Scan": {"body", "num_scan_inputs"}
    | {f"scan_{side}_{what}" for side in ("input", "output") for what in ("axes", "directions")},
}
OF_OLD = {"broadcast", "consumed_inputs"}
"""Before opset 7: what permitted to broadcast, and what named memory to use again."""


def words(function: Any, seen: set[Any]) -> Iterator[str]:
    """Yield every text constant in a function of the frontend and in those that it calls."""
    if function in seen:
        return
    seen.add(function)
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        for value in code.co_consts:
            if isinstance(value, types.CodeType):
                pending.append(value)
            elif isinstance(value, str):
                yield value
            elif isinstance(value, tuple):
                yield from (item for item in value if isinstance(item, str))
        named = [function.__globals__.get(name) for name in code.co_names]
        modules = [each for each in named if isinstance(each, types.ModuleType)]
        rooms = [each for each in modules if each.__name__.startswith("snnc.frontend")]
        named += [getattr(room, name, None) for room in rooms for name in code.co_names]
        for called in named:
            if isinstance(called, types.FunctionType) and called.__module__.startswith("snnc.frontend"):
                yield from words(called, seen)


@pytest.mark.parametrize("row", supported_operators()[:-1], ids=lambda row: str(row.name))
def test_every_attribute_is_read(row: Any) -> None:
    """One that is passed over would be a wrong value without a word."""
    unread = set(row.attributes) - OF_OLD
    if row.name in UNROLLED or row.name in READ_OF:
        assert unread <= set(READ_OF.get(row.name, ATTRIBUTES))
        return
    kind = onnx.NodeProto(op_type=row.name.rpartition(":")[2], domain=row.domain)
    operator = operator_of(kind) or OPERATORS[row.name]
    for function in (operator.read, legacy.modern, legacy.aligned):
        unread -= set(words(function, set()))
    assert unread <= WITHOUT_MEANING.get(row.name, set())


def test_the_columns() -> None:
    found = {row.name: row for row in supported_operators()}
    assert found["Conv"].opsets == f"{OLDEST_OPSET}-{NEWEST_OPSET}"
    assert found["Where"].opsets == f"9-{NEWEST_OPSET}"
    assert "strides" in found["Conv"].attributes
    assert {row.spiking for row in found.values()} == {"exact", "approximated", "host", ""}
    assert (found["Relu"].spiking, found["MaxPool"].spiking) == ("approximated", "exact")
    assert list(found["Relu"].as_dict()) == ["name", "domain", "opsets", "attributes", "spiking", "forms"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_both_orders_of_blocks(mode: str) -> None:
    nodes = [node("SpaceToDepth", "x", "s", blocksize=2), node("Conv", "s w")]
    proto = model(nodes, [1, 3, 4, 6], {"w": normal(5, 12, 1, 1)}, opset=28, ir_version=13)
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("mode", mode))
    x = np.arange(72, dtype=np.float32).reshape(1, 3, 4, 6)
    source = read_onnx(loaded_from(proto.SerializeToString(), Path("blocks.onnx")))
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    assert np.allclose(read_again(source, x).ravel(), np.asarray(expected).ravel(), 1e-4)


def test_an_unknown_order_of_blocks() -> None:
    proto = model(
        [node("SpaceToDepth", "x", "y", blocksize=2, mode="?")], [1, 3, 4, 6], opset=28, ir_version=13
    )
    with pytest.raises(UnsupportedModelError, match="DCR or CRD"):
        read_onnx(loaded_from(proto.SerializeToString(), Path("blocks.onnx")))


def test_upsample_of_opset_1_is_refused() -> None:
    proto = model([node("Upsample", "x", height_scale=2.0, width_scale=2.0)], [1, 1, 2, 2], opset=1)
    with pytest.raises(UnsupportedModelError, match="Upsample"):
        read_onnx(loaded_from(proto.SerializeToString(), Path("old.onnx")))


def test_dequantisation_by_blocks_is_refused() -> None:
    """Its scales would pass for those of one axis."""
    operation = node("DequantizeLinear", "x s", "d", axis=2, block_size=2)
    constants = {"s": np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2)}
    proto = model(
        [operation, node("Relu", "d")],
        [1, 2, 4],
        constants,
        opset=21,
        ir_version=10,
        dtype=onnx.TensorProto.INT8,
    )
    with pytest.raises(UnsupportedModelError, match="by blocks"):
        read_onnx(loaded_from(proto.SerializeToString(), Path("blocks.onnx")))
