"""The networks of `benchmarks.streams hybrids`, untrained: what is written, and what of it spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from benchmarks.streams import hybrids

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter of PyTorch


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what writes a network of a kind without training, and gives it in PyTorch."""

    def make(kind: str) -> tuple[Path, Any]:
        kept: list[Any] = []

        def untrained(net: Any, folder: Path, epochs: int) -> Any:
            kept.append(net.eval())
            return net

        path = tmp_path_factory.mktemp("hybrids") / f"{kind}.onnx"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hybrids, "fitted", untrained)
            hybrids.train(path.parent, path, 1, kind)
        return path, kept[0]

    return make


def test_the_stem_runs_as_ordinary_onnx(written: Any) -> None:
    path, net = written("hybrid")
    x = np.random.default_rng(0).integers(0, 5, (60, 2, 34, 34)).astype(np.float32)
    made = snnc.convert(str(path), x, timesteps=1, preset="one-step", task="classes")
    assert made.host is not None
    assert {node.operator for node in made.host.nodes} == {"Conv", "Relu", "LRN"}
    assert made.host.share > 0.7
    # The normalisation that is written is that which was trained.
    import onnxruntime

    named = hybrids.NORMALISED
    net.stem[2] = torch.nn.LocalResponseNorm(named["size"], named["alpha"], named["beta"], named["bias"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = net(torch.from_numpy(x)).numpy()
    found = np.asarray(session.run(None, {"x": x})[0])
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_all_of_the_transformer_spikes(written: Any) -> None:
    path, _ = written("former")
    x = np.random.default_rng(0).integers(0, 5, (60, 2, 34, 34)).astype(np.float32)
    made = snnc.convert(str(path), x, timesteps=1, preset="one-step", task="classes")
    assert made.host is None
    kinds = {type(node).__name__ for node in made.graph}
    assert {"CountSoftmax", "CountMatrixProduct", "CountNormalisation"} <= kinds
