"""Folders, lists and tables on the command line and in Python: the same as the arrays that they hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import snnc
from snnc.artefact import load, save
from snnc.cli import main
from snnc.data.preprocessing import Preprocessing
from snnc.ir.text import print_exact
from tests.onnx_models import model, node, normal, saved

JSON = '{"divide": 255, "mean": [0.5, 0.4, 0.3], "std": 0.25, "resize": 9, "crop": 8}'
CONVERT = ("-T", "2", "--preset", "fast", "--threads", "1")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures, 12 x 10, and how they are prepared."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir()
        for index in range(24):
            values = np.clip(rng.normal(level, 40, (10, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{index:02}.png")
    (folder / "images.json").write_text(JSON)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("Flatten", "r", "f"),
        node("MatMul", "f m"),
    ]
    constants = {"w": normal(4, 3, 3, 3), "m": normal(144, 2)}
    return saved(tmp_path_factory.mktemp("network"), model(nodes, ["N", 3, 8, 8], constants))


@pytest.fixture(scope="module")
def artefact(pictures: Path, network: Path) -> Path:
    out = network.with_name("folder.snn.onnx")
    assert main(["convert", str(network), "--calib", str(pictures), "-o", str(out), *CONVERT]) == 0
    return out


def arrays(pictures: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the folder holds, resized and cut by Pillow alone."""
    files = sorted(pictures.glob("*/*.png"))
    resized = [
        Image.open(file).resize((10, 9), Image.Resampling.BILINEAR).crop((1, 0, 9, 8)) for file in files
    ]
    return np.stack([np.asarray(item) for item in resized]), np.repeat([0, 1], len(files) // 2)


def test_a_folder_is_what_its_pictures_are(
    pictures: Path, network: Path, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = arrays(pictures)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    (tmp_path / "rows.json").write_text('{"divide": 255, "mean": [0.5, 0.4, 0.3], "std": 0.25}')
    out = tmp_path / "arrays.snn.onnx"
    given = ("--calib", str(tmp_path / "rows.npz"), "--preprocess", str(tmp_path / "rows.json"))
    assert main(["convert", str(network), *given, "--rows-layout", "NHWC", "-o", str(out), *CONVERT]) == 0
    one, other = load(artefact), load(out)
    assert print_exact(one.graph) == print_exact(other.graph)
    capsys.readouterr()
    found = []
    for subject in (artefact, network):
        for data in (pictures, tmp_path / "rows.npz"):
            options = (
                ["--preprocess", str(tmp_path / "rows.json")]
                if subject == network and data != pictures
                else []
            )
            assert (
                main(["eval", str(subject), "--data", str(data), "--threads", "1", "--json", *options]) == 0
            )
            captured = capsys.readouterr()
            found.append(json.loads(captured.out))
            assert ("0 dark, 1 light" in captured.err) == (data == pictures)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0]["n"] == 48


def test_in_python(pictures: Path, network: Path, artefact: Path) -> None:
    x, _ = arrays(pictures)
    options: dict[str, Any] = {"timesteps": 2, "preset": "fast", "threads": 1}
    made = snnc.compile_model(network, pictures, **options)
    assert print_exact(made.graph) == print_exact(load(artefact).graph)
    preprocessing = Preprocessing.from_dict({**json.loads(JSON), "rows_layout": "NHWC"})
    again = snnc.compile_model(network, x, preprocessing=preprocessing, **options)
    assert print_exact(again.graph) == print_exact(made.graph)
    traces = [snnc.simulate(made, given, threads=1).logits for given in (pictures, x)]
    assert np.array_equal(traces[0], traces[1])


def test_the_other_verbs(
    pictures: Path, network: Path, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "rows.txt"
    listed.write_text("".join(f"{file} {file.parent.name}\n" for file in sorted(pictures.glob("*/*.png"))))
    for rows in (pictures, listed):
        out = tmp_path / f"{rows.name}.npy"
        assert main(["run", str(artefact), "--input", str(rows), "-o", str(out), "--threads", "1"]) == 0
    first, second = (np.load(path) for path in sorted(tmp_path.glob("*.npy")))
    assert np.array_equal(first, second)
    data = ("--data", str(pictures), "--threads", "1")
    assert main(["compare", str(artefact), str(network), *data]) == 0
    assert main(["report", str(artefact), "--source", str(network), "--limit", "8", *data]) == 0
    assert main(["bench", str(artefact), "--repeats", "1", *data]) in (0, 2)
    capsys.readouterr()


def test_the_first_file_that_does_not_fit_is_named(
    pictures: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = ("--preprocess", "preset:cifar10")
    out = ("-o", str(tmp_path / "n.snn.onnx"), *CONVERT)
    assert main(["convert", str(network), "--calib", str(pictures), *preset, *out]) == 5
    told = capsys.readouterr().err
    assert "00.png, the first of 48 pictures" in told
    assert "(batch, 3, 8, 8)" in told or "(n, 3, 8, 8)" in told or "3, 8, 8" in told
    assert main(["convert", str(network), "--calib", str(pictures), "--preprocess", "preset:x", *out]) == 5
    assert "known: preset:imagenet" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_preprocessing_beside_the_pictures(
    pictures: Path, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in pictures.glob("light/0*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert main(["eval", str(artefact), "--data", str(tmp_path)]) == 0
    (tmp_path / "images.json").write_text('{"divide": 255}')
    assert main(["eval", str(artefact), "--data", str(tmp_path)]) == 5
    assert "take the file away, or convert again" in capsys.readouterr().err


def test_a_layout_leaves_the_preprocessing_beside_the_pictures(
    pictures: Path, network: Path, artefact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "n.snn.onnx"
    layout = ("--rows-layout", "NHWC")
    assert main(["convert", str(network), "--calib", str(pictures), *layout, "-o", str(out), *CONVERT]) == 0
    assert print_exact(load(out).graph) == print_exact(load(artefact).graph)


def test_networks_that_prepare_pictures_otherwise_are_not_compared(
    pictures: Path, network: Path, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**json.loads(JSON), "interpolation": "nearest"}
    made = load(artefact)
    metadata = replace(made.metadata, preprocessing=Preprocessing.from_dict(asked).as_dict())
    save(replace(made, metadata=metadata), tmp_path / "other.snn.onnx")
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "dark").symlink_to(pictures / "dark")
    data = ["--data", str(tmp_path / "dark")]
    assert main(["compare", str(artefact), str(artefact), *data]) == 0
    for other in (
        [str(tmp_path / "other.snn.onnx")],
        [str(network), "--preprocess", str(tmp_path / "asked.json")],
    ):
        capsys.readouterr()
        assert main(["compare", str(artefact), *other, *data]) == 5
        assert "in other ways" in capsys.readouterr().err


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [node("Gemm", "x a", "h"), node("Relu", "h", "r"), node("Gemm", "r b")]
    path = saved(tmp_path, model(nodes, ["N", 4], {"a": normal(4, 8), "b": normal(8, 3)}))
    rng = np.random.default_rng(1)
    lines = [
        ",".join(f"{value:.4f}" for value in rng.standard_normal(4)) + f",{'abc'[i % 3]}" for i in range(60)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,d,kind", *lines]))
    rows, out = f"{tmp_path / 'rows.csv'}#kind", str(tmp_path / "n.snn.onnx")
    assert main(["convert", str(path), "--calib", rows, "-o", out, *CONVERT]) == 0
    capsys.readouterr()
    assert main(["eval", out, "--data", rows, "--against", str(path), "--json"]) == 0
    captured = capsys.readouterr()
    assert "column 'kind', by sorted names: 0 a, 1 b, 2 c" in captured.err
    assert json.loads(captured.out)["n"] == 60
