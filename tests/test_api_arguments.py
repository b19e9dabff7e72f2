"""The Python interface takes what people have, and refuses the rest in one line of ``snnc.errors``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import onnx
import pytest

import snnc
from snnc.analysis.evaluation import evaluate
from snnc.artefact import Artefact, save
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, SnncError, UsageError
from tests import quadrants
from tests.quadrants import Files

# What people pass is not what the types say.
convert_anything: Any = convert
evaluate_anything: Any = evaluate
load_anything: Any = snnc.load
prepare_anything: Any = Preprocessing
save_anything: Any = save
simulate_anything: Any = snnc.simulate

PREPROCESSING = Preprocessing.from_dict(quadrants.PREPROCESSING)
ROWS = quadrants.images(150, 1)[0]
X, Y = quadrants.images(20, 2)


class Tensor:
    """What snnc sees of a tensor of PyTorch: it refuses NumPy until it is detached and on the CPU."""

    def __init__(self, values: np.ndarray, state: str = "cuda, with gradient") -> None:
        self._values, self._state = values, state

    def detach(self) -> Tensor:
        return Tensor(self._values, "cuda")

    def cpu(self) -> Tensor:
        return Tensor(self._values, "cpu" if self._state == "cuda" else self._state)

    def numpy(self) -> np.ndarray:
        if self._state != "cpu":
            raise TypeError(f"can't convert {self._state} tensor to numpy")
        return self._values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Artefact:
    return snnc.compile_model(files.model, ROWS, preset="fast", timesteps=4, preprocessing=PREPROCESSING)


def compiled(model: Any, rows: Any = ROWS, preprocessing: Any = PREPROCESSING, **options: Any) -> Artefact:
    given: dict[str, Any] = {"preset": "fast", "timesteps": 4} | options
    return snnc.compile_model(model, rows, preprocessing=preprocessing, **given)


def html(artefact: Any) -> str:
    """Return what a notebook shows."""
    text: str = artefact._repr_html_()
    return text


def same(one: Artefact, other: Artefact) -> bool:
    return bool(np.array_equal(snnc.simulate(one, X).logits, snnc.simulate(other, X).logits))


MODELS: dict[str, Callable[[Files], Any]] = {
    "text": lambda files: str(files.model),
    "bytes": lambda files: files.model.read_bytes(),
    "bytearray": lambda files: bytearray(files.model.read_bytes()),
    "model": lambda files: onnx.load(files.model),
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_models(kind: str, files: Files, artefact: Artefact) -> None:
    made = compiled(MODELS[kind](files))
    assert same(made, artefact)
    assert made.metadata.source_sha256 == artefact.metadata.source_sha256


PREPROCESSINGS: dict[str, Callable[[Files], Any]] = {
    "dictionary": lambda files: quadrants.PREPROCESSING,
    "mapping": lambda files: MappingProxyType(quadrants.PREPROCESSING),
    "numpy": lambda files: {"divide": np.float32(255), "mean": np.array([0.25]), "std": np.float64(0.5)},
    "path": lambda files: files.preprocessing,
    "text": lambda files: str(files.preprocessing),
    "plain": lambda files: prepare_anything(255, 0.25, 0.5),
}


@pytest.mark.parametrize("kind", list(PREPROCESSINGS))
def test_preprocessings(kind: str, files: Files, artefact: Artefact) -> None:
    made = compiled(files.model, preprocessing=PREPROCESSINGS[kind](files))
    assert same(made, artefact)
    json.dumps(made.metadata.preprocessing)


def forms(x: np.ndarray, folder: Path) -> dict[str, Any]:
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x)
    return {
        "lists": x.tolist(),
        "list of arrays": list(x),
        "tensor": Tensor(x),
        "npy": folder / "x.npy",
        "npz": str(folder / "x.npz"),
        "integers": x.astype(np.int64),
        "strided": np.repeat(x, 2, axis=2)[:, :, ::2],
    }


@pytest.mark.parametrize("kind", ["lists", "list of arrays", "tensor", "npy", "npz", "integers", "strided"])
def test_rows(kind: str, files: Files, artefact: Artefact, tmp_path: Path) -> None:
    assert same(compiled(files.model, forms(ROWS, tmp_path)[kind]), artefact)
    wanted = simulate_anything(artefact, X).logits
    x = forms(X, tmp_path)[kind]
    np.testing.assert_array_equal(simulate_anything(artefact, x).logits, wanted)
    found = evaluate_anything(
        artefact.graph,
        artefact.encode,
        x,
        Y.tolist(),
        simulator=load_simulator("numba"),
    )
    assert found.scores.top1 is not None
    assert found.scores.top1.value == (wanted.argmax(axis=1) == Y).mean()


def test_an_artefact_may_be_named_by_its_file(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "quadrants.snn.onnx"
    save_anything(artefact, path)
    for name in (path, str(path)):
        np.testing.assert_array_equal(
            simulate_anything(name, X).logits, simulate_anything(artefact, X).logits
        )


REFUSED: dict[str, Callable[[Files, Artefact], Any]] = {
    "no model": lambda files, a: compiled(None),
    "a number as model": lambda files, a: compiled(3),
    "a graph as model": lambda files, a: compiled(onnx.load(files.model).graph),
    "other bytes": lambda files, a: compiled(b"\x00 no network"),
    "no bytes": lambda files, a: compiled(b""),
    "an empty model": lambda files, a: compiled(onnx.ModelProto()),
    "a folder": lambda files, a: compiled(files.folder),
    "an artefact as network": lambda files, a: compiled(a),
    "an artefact's bytes as network": lambda files, a: compiled(a.model()),
    "a list as preprocessing": lambda files, a: compiled(files.model, preprocessing=[255, 0.5]),
    "an unknown key": lambda files, a: compiled(files.model, preprocessing={"scale": 1}),
    "a number as preprocessing": lambda files, a: compiled(files.model, preprocessing=255),
    "no rows": lambda files, a: compiled(files.model, None),
    "ragged rows": lambda files, a: compiled(files.model, [[1, 2], [3]]),
    "objects as rows": lambda files, a: compiled(files.model, [{}, {}]),
    "a dictionary of rows": lambda files, a: compiled(files.model, {"x": ROWS}),
    "a generator of rows": lambda files, a: compiled(files.model, (row for row in ROWS)),
    "complex rows": lambda files, a: compiled(files.model, ROWS.astype(complex)),
    "a number as rows": lambda files, a: compiled(files.model, 3),
    "one flat list": lambda files, a: compiled(files.model, [1, 2, 3]),
    "an empty list": lambda files, a: compiled(files.model, []),
    "no images": lambda files, a: compiled(files.model, ROWS[:0]),
    "a missing file of rows": lambda files, a: compiled(files.model, files.folder / "none.npz"),
    "a float T": lambda files, a: compiled(files.model, timesteps=2.5),
    "a whole float T": lambda files, a: compiled(files.model, timesteps=4.0),
    "text as T": lambda files, a: compiled(files.model, timesteps="4"),
    "a truth value as T": lambda files, a: compiled(files.model, timesteps=True),
    "a float seed": lambda files, a: compiled(files.model, seed=0.5),
    "a negative seed": lambda files, a: compiled(files.model, seed=-1),
    "a number as preset": lambda files, a: compiled(files.model, preset=3),
    "a list as pipeline": lambda files, a: compiled(files.model, pipeline=["lower"]),
    "a list as settings": lambda files, a: compiled(files.model, settings=["a"]),
    "an object among settings": lambda files, a: compiled(files.model, settings={"lower.x": {}}),
    "a number as progress": lambda files, a: compiled(files.model, progress=3),
    "a dictionary as options": lambda files, a: convert_anything(files.model, ROWS, {"timesteps": 4}),
    "a network as artefact": lambda files, a: simulate_anything(files.model, X),
    "a model as artefact": lambda files, a: simulate_anything(onnx.load(files.model), X),
    "no artefact": lambda files, a: simulate_anything(None, X),
    "text as rows": lambda files, a: simulate_anything(a, "none.npy"),
    "one image": lambda files, a: simulate_anything(a, X[0]),
    "a float T of a run": lambda files, a: simulate_anything(a, X, timesteps=2.0),
    "a float of threads": lambda files, a: simulate_anything(a, X, threads=1.5),
    "a number as backend": lambda files, a: simulate_anything(a, X, backend=3),
    "a number as path": lambda files, a: load_anything(3),
    "an artefact to load": lambda files, a: load_anything(a),
    "a network to save": lambda files, a: save_anything(onnx.load(files.model), "x"),
    "a list to prepare": lambda files, a: PREPROCESSING.apply(cast(Any, [[1]])),
    "masked rows": lambda files, a: snnc.simulate(a, np.ma.masked_greater(X, 100)),
    "an artefact to evaluate": lambda files, a: evaluate_anything(
        a, a.encode, X, Y, simulator=load_simulator("numba")
    ),
    "the name of a simulator": lambda files, a: evaluate_anything(a.graph, a.encode, X, Y, simulator="numba"),
    "no encoder": lambda files, a: evaluate_anything(a.graph, None, X, Y, simulator=load_simulator("numba")),
    "labels of text": lambda files, a: evaluate_anything(
        a.graph,
        a.encode,
        X,
        ["a"] * len(X),
        simulator=load_simulator("numba"),
    ),
}


@pytest.mark.parametrize("mistake", list(REFUSED))
def test_every_other_thing_is_one_line(mistake: str, files: Files, artefact: Artefact) -> None:
    with pytest.raises(SnncError) as refused:
        REFUSED[mistake](files, artefact)
    assert isinstance(refused.value, InputError | UsageError)
    text = str(refused.value)
    assert "\n" not in text
    assert 10 < len(text) < 400


def test_a_dictionary_of_rows_is_told_what_to_give(files: Files) -> None:
    with np.load(files.calibration) as file:
        for value in ({"x": ROWS, "y": Y}, file):
            with pytest.raises(InputError, match=r"a mapping with the keys 'x', 'y': give .* DATA\['x'\]"):
                compiled(files.model, value)


def test_a_whole_number_of_numpy_is_one(files: Files, artefact: Artefact) -> None:
    assert same(compiled(files.model, timesteps=np.int64(4), seed=np.uint8(0)), artefact)
    assert Options(settings={"clip-activations.floor": True, "a.b": 3}).settings == {
        "clip-activations.floor": "true",
        "a.b": "3",
    }


def test_an_artefact_shows_itself_in_one_line(artefact: Artefact) -> None:
    text = repr(artefact)
    assert "\n" not in text
    assert len(text) < 300
    for part in ("quadrants", "T 4", "int8", "input 1x8x8", "neurons 128"):
        assert part in text
    table = html(artefact)
    assert table.startswith("<table>")
    assert '<th scope="row">neurons</th><td>128</td>' in table


def test_names_from_a_file_are_no_markup(artefact: Artefact) -> None:
    from dataclasses import replace

    named = replace(artefact, graph=replace(artefact.graph, name="<script>"))
    assert "<script>" not in html(named)


def test_progress_is_told_to_a_function(files: Files, artefact: Artefact) -> None:
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, description: str) -> None:
        told.append((done, total, description))

    made = compiled(files.model, preset="balanced", progress=progress)
    assert told
    assert same(made, compiled(files.model, preset="balanced"))
    for text in {text for _, _, text in told}:
        steps = [(done, total) for done, total, other in told if other == text]
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
    told.clear()
    evaluate_anything(
        artefact.graph, artefact.encode, X, Y, simulator=load_simulator("numba"), progress=progress
    )
    assert told == [(0, 1, "evaluating at T = 4"), (1, 1, "evaluating at T = 4")]


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({"0.weight": np.zeros((2, 2))}, "load_state_dict"),
        (onnx.ModelProto, r"it is a class: give an instance, ModelProto\(\.\.\.\)"),
        (7, r"give a torch\.nn\.Module, the path"),
    ],
)
def test_what_is_no_network_is_told_its_own_cure(given: Any, cure: str) -> None:
    with pytest.raises(InputError, match=cure):
        snnc.convert(given, np.zeros((4, 2), np.float32), timesteps=1)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("m.pt", "give snnc.convert the module"),
        ("m.keras", "model.export"),
        ("m.tflite", "tf2onnx"),
        ("m.onnx", ""),
    ],
)
@pytest.mark.parametrize("content", [b"PK\x03\x04\xff\xff", b"\x1c\x00\x00\x00TFL3", b"\x08"])
def test_files_of_other_forms_are_told_their_way_to_onnx(
    name: str, cure: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"is not an ONNX file.*{cure}"):
        snnc.convert(tmp_path / name, np.zeros((4, 2), np.float32), timesteps=1)
