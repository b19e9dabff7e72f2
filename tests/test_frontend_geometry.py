"""Random geometries of sliding windows, held to onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import assume, given
from hypothesis import strategies as st

from snnc.frontend import check_onnx
from tests.onnx_models import check_equal, model, node, saved

small = st.integers(1, 3)
pad = st.integers(0, 2)


@st.composite
def windows(draw: st.DrawFn, rank: int) -> tuple[list[int], list[int], dict[str, Any]]:
    """Draw the size of an image, a kernel, and attributes; the window fits into the image."""
    size = [draw(st.integers(3, 9)) for _ in range(rank)]
    kernel = [draw(small) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": [draw(small) for _ in range(rank)]}
    mode = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(pad) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = mode
    if mode in ("NOTSET", "VALID"):  # onnxruntime refuses dilation together with SAME
        attributes["dilations"] = [draw(small) for _ in range(rank)]
        reach = [d * (k - 1) + 1 for d, k in zip(attributes["dilations"], kernel, strict=True)]
        assume(all(r <= n for r, n in zip(reach, size, strict=True)))
    return size, kernel, attributes


def cuts(size: list[int], kernel: list[int], attributes: dict[str, Any]) -> bool:
    """Say whether SAME asks for fewer than no pads, where onnxruntime fails or shifts windows."""
    strides = attributes["strides"]
    wanted = [(-(-n // s) - 1) * s + k - n for n, s, k in zip(size, strides, kernel, strict=True)]
    return "SAME" in attributes.get("auto_pad", "") and min(wanted) < 0


def agrees(proto: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_equal(Path(folder), proto, rows=1)


@given(
    st.integers(1, 2).flatmap(windows), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.booleans()
)
def test_convolutions(
    drawn: tuple[list[int], list[int], dict[str, Any]], groups: int, inputs: int, outputs: int, bias: bool
) -> None:
    size, kernel, attributes = drawn
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((groups * outputs, inputs, *kernel)).astype(np.float32)
    constants = {"w": weight, "b": weight[:, 0].reshape(len(weight), -1)[:, 0]}
    conv = node("Conv", "x w b" if bias else "x w", group=groups, **attributes)
    agrees(model([conv], [1, groups * inputs, *size], constants, opset=13))


@given(st.integers(1, 2).flatmap(windows), st.booleans())
def test_max_pools(drawn: tuple[list[int], list[int], dict[str, Any]], ceil: bool) -> None:
    size, kernel, attributes = drawn
    assume(not cuts(size, kernel, attributes))
    if "pads" in attributes:
        assume(all(p < k for p, k in zip(attributes["pads"], kernel * 2, strict=True)))
        assume(max(attributes["dilations"]) == 1 or max(attributes["pads"]) == 0)
        attributes["ceil_mode"] = int(ceil)
    agrees(model([node("MaxPool", "x", kernel_shape=kernel, **attributes)], [1, 2, *size], opset=13))


@given(st.integers(1, 2).flatmap(windows), st.booleans(), st.booleans())
def test_average_pools_agree_or_are_refused(
    drawn: tuple[list[int], list[int], dict[str, Any]], ceil: bool, include: bool
) -> None:
    size, kernel, attributes = drawn
    attributes.pop("dilations", None)
    if "pads" in attributes:
        assume(all(p < k for p, k in zip(attributes["pads"], kernel * 2, strict=True)))
        attributes["ceil_mode"] = int(ceil)
    pool = node("AveragePool", "x", kernel_shape=kernel, count_include_pad=int(include), **attributes)
    proto = model([pool], [1, 2, *size], opset=19)
    with tempfile.TemporaryDirectory() as folder:
        refused = check_onnx(saved(Path(folder), proto))
        if refused:
            assert {d.code.number for d in refused} == {"SNN102"}
            padded = any(attributes.get("pads", ())) or "SAME" in str(attributes.get("auto_pad"))
            assert padded or ceil
            return
        check_equal(Path(folder), proto, rows=1)
