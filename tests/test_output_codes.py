"""Integer outputs of quantised networks are judged by what they stand for where an activation ends them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnc.analysis.answers import Source
from snnc.analysis.evaluation import evaluate
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.source.output_codes import output_code
from snnc.source.source_session import SourceSession
from tests.onnx_models import node, saved
from tests.quantised_models import integer_operators, rows

SHAPE = (3, 6, 6)


def ending(quantised: bool, *, activated: bool = False) -> onnx.ModelProto:
    """Return a network that ends in codes, or in what they stand for."""
    network = integer_operators()
    last, kind = ("h", TensorProto.UINT8) if quantised else ("y", TensorProto.FLOAT)
    if activated:
        network.node("Softmax", ["y"], "probabilities", axis=1)
        code = [network.constant("scale", np.array(1 / 256, np.float32))]
        code.append(network.constant("zero", np.array(0, np.uint8)))
        network.node("QuantizeLinear", ["probabilities", *code], "codes")
        last = "codes" if quantised else "probabilities"
    return network.model(SHAPE, {last: kind})


def test_codes_are_judged_by_what_they_stand_for(tmp_path: Path) -> None:
    x = rows(12)
    codes, real = (
        SourceSession(saved(tmp_path, ending(kind, activated=True), f"{kind}.onnx"), 1)
        for kind in (True, False)
    )
    assert len(np.unique(real.run(x))) > 12
    np.testing.assert_allclose(codes.run(x), real.run(x), atol=1 / 256)


@pytest.mark.parametrize(("activated", "least"), [(False, 100), (True, 25)])
def test_spikes_lose_nothing_to_a_network_that_ends_in_codes(
    activated: bool, least: float, tmp_path: Path
) -> None:
    path, x = saved(tmp_path, ending(True, activated=activated)), rows(24)
    made = convert(path, x, Options(1, "exact", threads=1)).artefact
    session = SourceSession(path, 1)
    found = evaluate(
        made.graph,
        made.encode,
        x,
        None,
        simulator=load_simulator("numba", 1),
        source=Source(session, lambda rows: rows),
        ends=session.ends,
        metrics=("sqnr",),
    )
    (output,) = found.outputs.values()
    (measured,) = [each for each in output.scores.measured if each.metric == "sqnr"]
    assert measured.value > least


@pytest.mark.parametrize("last", ["Identity", "Flatten"])
def test_operators_that_move_codes_keep_them(last: str) -> None:
    proto = ending(True)
    proto.graph.node.append(node(last, "h", "moved"))
    assert output_code(proto, "moved") == output_code(proto, "h") is not None


def test_what_is_no_code() -> None:
    proto = ending(False)
    proto.graph.node.append(node("ArgMax", "y", "best", axis=1))
    assert output_code(proto, "best") is None
    assert output_code(proto, "y") is None
