"""onnxruntime multiplies bytes exactly on every processor, or a warning says that it does not."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.source import exact_session as sessions
from snnc.source.host_sections import HostSection


def pair() -> bytes:
    """A matrix product of two bytes each, whose sum does not fit 16 bits."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "pair",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", 1])],
        [numpy_helper.from_array(np.full((2, 1), 127, np.int8), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def test_sums_of_bytes_do_not_saturate() -> None:
    session = sessions.exact_session(pair(), ort.SessionOptions())
    assert np.asarray(session.run(None, {"a": np.full((1, 2), 255, np.uint8)})[0]).item() == sessions.PAIR


def test_a_section_of_the_host_does_not_saturate() -> None:
    session = HostSection(onnx.load_from_string(pair()), None).open()
    assert np.asarray(session.run(None, {"a": np.full((1, 2), 255, np.uint8)})[0]).item() == sessions.PAIR


@pytest.mark.parametrize("saturates", [True, False])
def test_without_an_exact_kernel_a_warning_says_so(
    saturates: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[str] = []
    real = ort.InferenceSession

    def opening(model: Any, options: ort.SessionOptions, **more: Any) -> ort.InferenceSession:
        opened.append(options.get_session_config_entry(sessions.EXACT_BYTES))
        if opened[-1] == "1":
            raise RuntimeError("no kernel")
        return real(model, options, **more)

    monkeypatch.setattr(ort, "InferenceSession", opening)
    monkeypatch.setattr(sessions, "saturates", lambda: saturates)
    with caplog.at_level(logging.WARNING, "snnc"):
        sessions.exact_session(pair(), ort.SessionOptions())
    assert opened == ["1", "0"]
    assert ("no exact kernel" in caplog.text) == saturates
