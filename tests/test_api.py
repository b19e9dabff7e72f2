"""The Python interface: the examples of the documentation, and what the three functions promise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import snnc
from snnc.compiler import Options
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, UsageError
from tests import quadrants

ROOT = Path(__file__).parent.parent
PREPROCESSING = Preprocessing.from_dict(quadrants.PREPROCESSING)


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "api.md"
    monkeypatch.chdir(tmp_path)
    code = examples(page)
    assert len(code) == 6
    exec(compile("\n".join(code), str(page), "exec"), {})
    printed = capsys.readouterr().out
    top1 = re.search(r"top-1 on 200 images: ([\d.]+)%", printed)
    assert top1 is not None
    assert float(top1[1]) > 75
    assert "M synaptic operations per image" in printed
    assert (tmp_path / "fashion.snn.onnx").exists()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return quadrants.write(tmp_path).model


def test_preprocessed_and_raw_rows_make_the_same_network(model: Path) -> None:
    rows = quadrants.images(150, 1)[0]
    raw = snnc.compile_model(model, rows, preset="fast", preprocessing=PREPROCESSING)
    ready = snnc.compile_model(model, PREPROCESSING.apply(rows), preset="fast")
    x = quadrants.images(20, 2)[0]
    np.testing.assert_array_equal(
        snnc.simulate(raw, x).logits, snnc.simulate(ready, PREPROCESSING.apply(x)).logits
    )
    assert ready.metadata.preprocessing is None


def test_the_same_call_gives_the_same_network(model: Path) -> None:
    rows = PREPROCESSING.apply(quadrants.images(150, 1)[0])
    one, two = (snnc.compile_model(str(model), list(rows)) for _ in range(2))
    assert one.model().SerializeToString(deterministic=True) == two.model().SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("backend", ["numba", "onnx", "reference"])
def test_every_simulator_gives_the_same_answers(backend: str, model: Path) -> None:
    rows = quadrants.images(150, 1)[0]
    artefact = snnc.compile_model(model, rows, timesteps=3, preset="fast", preprocessing=PREPROCESSING)
    x = quadrants.images(20, 2)[0]
    trace = snnc.simulate(artefact, x, backend=backend)
    assert trace.timesteps == 3
    np.testing.assert_array_equal(trace.logits, snnc.simulate(artefact, x, backend="reference").logits)
    more = snnc.simulate(artefact, x, timesteps=7, backend=backend)
    assert more.timesteps == 7


def test_what_the_functions_refuse(model: Path) -> None:
    rows = quadrants.images(150, 1)[0]
    with pytest.raises(UsageError, match="timesteps must be at least 1"):
        snnc.compile_model(model, rows, timesteps=0, preprocessing=PREPROCESSING)
    with pytest.raises(UsageError, match="unknown preset"):
        snnc.compile_model(model, rows, preset="splendid", preprocessing=PREPROCESSING)
    with pytest.raises(InputError, match="give an array of numbers"):
        snnc.compile_model(model, ["a", "b"])
    with pytest.raises(InputError, match=r"not \(150, 8, 8\)"):
        snnc.compile_model(model, rows)
    with pytest.raises(InputError, match="not in the zoo"):
        snnc.compile_model("zoo:missing", rows)
    artefact = snnc.compile_model(model, rows, preset="fast", preprocessing=PREPROCESSING)
    with pytest.raises(InputError, match="T must be at least 1"):
        snnc.simulate(artefact, rows, timesteps=0)
    with pytest.raises(UsageError, match="unknown simulator"):
        snnc.simulate(artefact, rows, backend="gpu")


@pytest.mark.parametrize("shape", [(784,), (1, 784), (28, 28), (1, 28, 28), (28, 28, 1)])
def test_images_fit_networks_of_any_rank(shape: tuple[int, ...]) -> None:
    x = np.arange(3 * 784).reshape(3, 28, 28).astype(np.float32)
    assert Preprocessing().apply(x, shape).shape == (3, *shape)
    np.testing.assert_array_equal(Preprocessing().apply(x, shape).reshape(x.shape), x)


def test_float32_presets_have_nothing_that_only_compensation_makes_good() -> None:
    text = Options(4, "balanced", precision="float32").passes().text
    assert "floor" not in text
    assert "fraction" not in text
    assert "compensate" not in text
    own = "fold-batchnorm,clip-activations{floor=true},lower,init-membrane{fraction=0.25}"
    assert Options(precision="float32", pipeline=own).passes().text == own
    asked = Options(4, "balanced", precision="float32", settings={"clip-activations.floor": "true"})
    assert "clip-activations{floor=true}" in asked.passes().text
