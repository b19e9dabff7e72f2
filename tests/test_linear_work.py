"""The work of `check` grows as the network does: function calls are counted, for two sizes of one network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from snnc.compiler import examine
from snnc.ir.rewriter import Names
from snnc.numerics import thresholds
from tests.onnx_models import model, node

SMALL, LARGE = 40, 160
EYE = np.eye(4, dtype=np.float32)


def chain(length: int) -> ModelProto:
    nodes, constants = [], {}
    for k in range(length):
        constants[f"w{k}"] = EYE
        nodes += [node("MatMul", f"h{k} w{k}" if k else "x w0", f"s{k}"), node("Relu", f"s{k}", f"h{k + 1}")]
    nodes.append(node("MatMul", f"h{length} w0", "y"))
    return model(nodes, ["N", 4], constants)


def wide(length: int, *, rectified: bool, shared: bool) -> ModelProto:
    """One sum of many layers, or of many readers of one layer."""
    nodes = [node("MatMul", "x w", "h")]
    for k in range(length):
        nodes.append(node("MatMul", "x w", f"s{k}"))
        if rectified:
            nodes.append(node("Relu", "h" if shared else f"s{k}", f"r{k}"))
    names = " ".join(f"{'r' if rectified else 's'}{k}" for k in range(length))
    nodes += [node("Sum", names, "sum"), node("Relu", "sum", "t"), node("MatMul", "t w", "y")]
    return model(nodes, ["N", 4], {"w": EYE})


NETWORKS: dict[str, Callable[[int], ModelProto]] = {
    "chain": chain,
    "sum of currents": lambda n: wide(n, rectified=False, shared=False),
    "sum of layers": lambda n: wide(n, rectified=True, shared=False),
    "sum of one layer's readers": lambda n: wide(n, rectified=True, shared=True),
}


def calls(network: ModelProto) -> int:
    """Return how many functions are called to judge a network, those written in C included."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        assert not examine(network)[1]
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", NETWORKS)
def test_the_work_is_linear(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise AssertionError("thresholds are fitted to activations that are made up")

    monkeypatch.setattr(thresholds, "quantise", none)
    network = NETWORKS[name]
    calls(network(4))  # imports, and what is remembered for good
    few, many = calls(network(SMALL)), calls(network(LARGE))
    assert many / few < 1.05 * LARGE / SMALL


def test_names_stay_short() -> None:
    """A thousand nodes of one wish get a thousand names of a few letters, not of up to a thousand."""
    names = Names()
    given = [names.fresh("sum.identity") for _ in range(1000)]
    assert len(set(given)) == 1000
    assert max(map(len, given)) < 20
