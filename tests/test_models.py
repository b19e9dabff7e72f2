"""The zoo: what the catalog says is what the files hold, and the files can be made again."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import snnc
from snnc import models
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.models import cifar10, fashion_mnist, measure

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
ENTRIES = {entry.name: entry for entry in models.list_models()}
WITH_ROWS = {name: entry for name, entry in ENTRIES.items() if entry.dataset.path is not None}
every_model = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
every_one_with_rows = pytest.mark.parametrize("entry", WITH_ROWS.values(), ids=WITH_ROWS)
NETWORKS = {name: entry for name, entry in ENTRIES.items() if entry.timesteps is None}
every_network = pytest.mark.parametrize("entry", NETWORKS.values(), ids=NETWORKS)
TUNED = "zoo:fashion-cnn-t2"


@pytest.fixture
def copied_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo that a test may damage."""
    for pattern in ("*.json", "*.onnx", "*.npz"):
        for path in models.FOLDER.glob(pattern):
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    return tmp_path


def idx(values: NDArray[np.uint8]) -> bytes:
    """Return ``values`` in the form of the original files."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes())


def write_idx(folder: Path, stem: str, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> None:
    (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(idx(x))
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(idx(y))


def test_names_are_unique_and_every_file_is_in_the_catalog() -> None:
    assert len(ENTRIES) == len(models.list_models()) >= 1
    described = {entry.path for entry in ENTRIES.values()} | {e.dataset.path for e in WITH_ROWS.values()}
    assert described == {*models.FOLDER.glob("*.onnx"), *models.FOLDER.glob("*.npz")}


@every_model
def test_the_hashes_are_those_of_the_files(entry: models.ZooEntry) -> None:
    assert measure.sha256(entry.path) == entry.sha256
    if entry.dataset.path is not None:
        assert measure.sha256(entry.dataset.path) == entry.dataset.sha256
    assert models.resolve(f"zoo:{entry.name}") == entry


@every_model
def test_the_file_is_small(entry: models.ZooEntry) -> None:
    assert entry.path.stat().st_size < 2_000_000


def test_there_are_networks_of_six_kinds_in_a_small_package() -> None:
    kinds = {entry.kind for entry in ENTRIES.values()}
    trained = {"ResNet", "small CNN", "keyword spotting", "4 levels, int8"}
    assert kinds == trained | {"tuned, T = 2", "step functions"}
    files = {entry.path for entry in ENTRIES.values()} | {e.dataset.path for e in WITH_ROWS.values()}
    assert sum(path.stat().st_size for path in files if path is not None) < 3_000_000


def test_the_levels_of_the_quantised_network_are_its_counts() -> None:
    """A network of 4 levels below 1 MB is converted without loss; the zoo holds no rows for it."""
    entry = ENTRIES["cifar10-compact"]
    assert entry.path.stat().st_size < 1_000_000
    with pytest.raises(UsageError, match="the zoo holds no rows of cifar10: name your own by --calib"):
        snnc.compile_model("zoo:cifar10-compact")
    with pytest.raises(UsageError, match="name your own by --data ROWS"):
        models.test_data(entry)
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), np.uint8)
    made = snnc.compile_model(entry.path, x, timesteps=2, threads=1)
    session = onnxruntime.InferenceSession(entry.path, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": x[:8].astype(np.float32)})[0])
    (found,) = made.decode(snnc.simulate(made, x[:8], threads=1)).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["zoo:", "zoo:no-such-network", "fashion-resnet", ""])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    known = ", ".join(f"zoo:{each}" for each in ENTRIES)
    with pytest.raises(InputError, match=rf"holds {known}$"):
        models.resolve(name)


def test_an_altered_network_is_refused(copied_zoo: Path) -> None:
    path = copied_zoo / "fashion_resnet.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"fashion_resnet\.onnx: .* altered.*reinstall"):
        models.resolve("zoo:fashion-resnet")


def test_missing_files_are_named(copied_zoo: Path) -> None:
    entry = models.resolve("zoo:fashion-resnet")
    entry.path.unlink()
    (copied_zoo / "fashion_mnist.npz").unlink()
    with pytest.raises(InputError, match=r"fashion_resnet\.onnx: .*cannot be read.*reinstall"):
        models.resolve("zoo:fashion-resnet")
    with pytest.raises(InputError, match=r"fashion_mnist\.npz: .*cannot be read.*reinstall"):
        models.calibration_data(entry)


def test_altered_data_are_refused(copied_zoo: Path) -> None:
    entry = models.resolve("zoo:fashion-resnet")
    rows = copied_zoo / "fashion_mnist.npz"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"fashion_mnist\.npz: .*altered"):
        models.test_data(entry)


@every_one_with_rows
def test_the_bundled_rows_are_of_every_class(entry: models.ZooEntry) -> None:
    counts = {"fashion_mnist": (500, 1000), "spoken_digits": (300, 400)}[entry.dataset.name]
    for (x, y), n in zip((models.calibration_data(entry), models.test_data(entry)), counts, strict=True):
        assert x.dtype == y.dtype == np.uint8
        assert (1, *x.shape[1:]) == entry.input_shape
        assert len(x) == n
        assert y.shape == (n,)
        assert set(y.tolist()) == set(range(len(entry.dataset.classes))) == set(range(10))
        assert len(np.unique(x.reshape(n, -1), axis=0)) == n


@every_one_with_rows
def test_calibration_and_test_rows_are_disjoint(entry: models.ZooEntry) -> None:
    calibration, test = (
        x.reshape(len(x), -1) for x, _ in (models.calibration_data(entry), models.test_data(entry))
    )
    assert len(np.unique(np.concatenate([calibration, test]), axis=0)) == len(calibration) + len(test)


@every_network
def test_onnxruntime_reproduces_the_accuracy_on_the_bundled_rows(entry: models.ZooEntry) -> None:
    """Another processor may round otherwise: two images in a thousand may change sides."""
    if entry.bundled_accuracy is None:
        pytest.skip("no rows are bundled")
    x, y = models.test_data(entry)
    stated = entry.bundled_accuracy
    measured = measure.top1(entry.path, measure.prepare(x, entry.preprocessing), y)
    assert stated.n == len(y)
    assert measured == pytest.approx(stated.top1, abs=0.002)


def test_the_tuned_network_is_an_artefact_of_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    """It is taken wherever an artefact is, knows source and rows, and is refused as a network."""
    entry = models.resolve(TUNED)
    found = snnc.load(TUNED)
    assert found.graph.timesteps == entry.timesteps == 2
    assert entry.source is not None
    source = models.resolve(f"zoo:{entry.source}")
    assert found.metadata.source_sha256 == source.sha256
    assert (entry.parameters, entry.macs) == (source.parameters, source.macs)
    assert str(ROOT) not in json.dumps(found.metadata.calibration)
    measured = found.evaluate(threads=1).scores.top1
    assert measured is not None
    assert entry.bundled_accuracy is not None
    assert measured.value == pytest.approx(entry.bundled_accuracy.top1)  # integers: the same everywhere
    assert main(["inspect", TUNED]) == 0
    assert main(["convert", TUNED, "-o", "out.snn.onnx"]) == 2
    assert "zoo:fashion-cnn-t2 is an artefact already" in capsys.readouterr().err
    assert main(["inspect", "zoo:fashion-cnn"]) == 2
    assert "zoo:fashion-cnn is not an artefact: convert it first" in capsys.readouterr().err
    with pytest.raises(InputError, match="zoo:fashion-cnn is not an artefact: convert it first"):
        snnc.load("zoo:fashion-cnn")


def test_step_functions_and_depthwise_blocks_are_in_their_networks() -> None:
    silu, digits = (onnx.load(ENTRIES[name].path).graph.node for name in ("fashion-silu", "spoken-digits"))
    assert Counter(node.op_type for node in silu)["Sigmoid"] == 3
    groups = [a.i for node in digits for a in node.attribute if a.name == "group"]
    assert groups == [24, 48, 48]


def test_the_accuracy_on_all_rows_is_reproduced() -> None:
    if not (SHARED_DATA / "fashion_mnist_test_dev.npz").is_file():
        pytest.skip("the optional data folder ../shared/data is absent")
    entry = models.resolve("zoo:fashion-resnet")
    x, y = fashion_mnist.read(SHARED_DATA, "test")
    measured = measure.top1(entry.path, measure.prepare(x, entry.preprocessing), y)
    assert entry.accuracy.n == len(y)
    assert measured == pytest.approx(entry.accuracy.top1, abs=0.001)
    assert measured >= 0.91


def test_the_bundled_rows_are_the_first_ones(tmp_path: Path) -> None:
    if not (SHARED_DATA / "fashion_mnist_train.npz").is_file():
        pytest.skip("the optional data folder ../shared/data is absent")
    entry = models.resolve("zoo:fashion-resnet")
    for split, (bundled_x, bundled_y) in (
        ("train", models.calibration_data(entry)),
        ("test", models.test_data(entry)),
    ):
        x, y = fashion_mnist.read(SHARED_DATA, "train" if split == "train" else "test")
        np.testing.assert_array_equal(bundled_x, x[: len(bundled_x)])
        np.testing.assert_array_equal(bundled_y, y[: len(bundled_y)])


@every_model
def test_the_intervals_are_wilson_intervals(entry: models.ZooEntry) -> None:
    for stated in filter(None, (entry.accuracy, entry.bundled_accuracy)):
        assert stated.ci95 == pytest.approx(measure.wilson(stated.top1, stated.n), abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_solves_its_equation(case: tuple[int, int]) -> None:
    """At both ends p of the interval, the observed share lies 1.96 standard errors of p away."""
    hits, n = case
    for p in measure.wilson(hits / n, n):
        assert -1e-12 <= p <= 1 + 1e-12
        assert (hits / n - p) ** 2 == pytest.approx(1.959964**2 * abs(p * (1 - p)) / n, rel=1e-4, abs=1e-12)


@every_network
def test_the_counts_are_those_of_the_graph(entry: models.ZooEntry) -> None:
    assert measure.count(entry.path) == (entry.parameters, entry.macs)


def test_the_counts_of_the_residual_network_are_those_of_its_drawing() -> None:
    """Stem; per block two 3x3 convolutions; a projection where the channels change; the classifier."""
    convolutions = [(1, 16, 9, 784)]
    for inputs, outputs, pixels in ((16, 16, 784), (16, 32, 196), (32, 32, 196), (32, 64, 49), (64, 64, 49)):
        convolutions += [(inputs, outputs, 9, pixels), (outputs, outputs, 9, pixels)]
        convolutions += [(inputs, outputs, 1, pixels)] if inputs != outputs else []
    weights = sum(i * o * k for i, o, k, _ in convolutions)
    scales_and_biases = sum(2 * o for _, o, _, _ in convolutions)
    macs = sum(i * o * k * pixels for i, o, k, pixels in convolutions)
    entry = ENTRIES["fashion-resnet"]
    assert entry.parameters == weights + scales_and_biases + 64 * 10 + 10
    assert entry.macs == macs + 64 * 10


def test_the_residual_network_keeps_what_a_compiler_must_fold() -> None:
    graph = onnx.load(ENTRIES["fashion-resnet"].path).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds == {
        "Conv": 13,
        "BatchNormalization": 13,
        "Relu": 11,
        "Add": 5,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    by_output = {node.output[0]: node for node in graph.node}
    shortcuts = Counter(by_output[node.input[1]].op_type for node in graph.node if node.op_type == "Add")
    assert shortcuts == {"Relu": 3, "BatchNormalization": 2}
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim] == [
        "N",
        *ENTRIES["fashion-resnet"].input_shape,
    ]


def test_listing_the_zoo_loads_no_heavy_library() -> None:
    code = (
        "import sys, snnc.models as m; m.resolve('zoo:' + m.list_models()[0].name);"
        "print(*{'numpy', 'onnx', 'onnxruntime', 'numba', 'torch', 'click'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_the_preprocessing_is_that_of_the_training() -> None:
    source = (models.FOLDER / "fashion_resnet.py").read_text(encoding="utf-8")
    (line,) = [line for line in source.splitlines() if line.startswith("DIVIDE, MEAN, STD = ")]
    stated = json.loads(f"[{line.partition('=')[2].partition('#')[0]}]")
    kept = ENTRIES["fashion-resnet"].preprocessing
    assert kept == {"divide": stated[0], "mean": [stated[1]], "std": [stated[2]], "layout": "NCHW"}


def test_both_forms_of_the_data_are_read(tmp_path: Path) -> None:
    x, y = models.test_data(ENTRIES["fashion-resnet"])
    write_idx(tmp_path, "train", x[:7], y[:7])
    np.savez(tmp_path / "fashion_mnist_test_dev.npz", x=x[7:12], y=y[7:12])
    for split, rows in (("train", slice(7)), ("test", slice(7, 12))):
        read_x, read_y = fashion_mnist.read(tmp_path, "train" if split == "train" else "test")
        np.testing.assert_array_equal(read_x, x[rows])
        np.testing.assert_array_equal(read_y, y[rows])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(28)), "download it again"),
        (gzip.compress(b"\0\0\x0d\x03" + bytes(12)), "not an IDX file"),
        (gzip.compress(b"\0\0\x08"), "not an IDX file"),
        (b"not gzip", "not a gzip file"),
        (idx(np.zeros((1, 8, 8), np.uint8)), r"uint8 \(N, 28, 28\)"),
        (idx(np.zeros((2, 28, 28), np.uint8)), r"with labels \(1,\)"),
    ],
    ids=["truncated", "floats", "short", "plain", "small images", "more images than labels"],
)
def test_bad_data_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_idx(tmp_path, "train", np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        fashion_mnist.read(tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not npz"])
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fashion_mnist_train.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not an \.npz file"):
        fashion_mnist.read(tmp_path, "train")


def test_an_archive_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "fashion_mnist_train.npz", x=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(InputError, match="arrays x and y"):
        fashion_mnist.read(tmp_path, "train")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither t10k-images.* nor fashion_mnist_test_dev\.npz"):
        fashion_mnist.read(tmp_path, "test")


def test_the_training_runs(tmp_path: Path) -> None:
    """One step on 64 images: the ONNX file is the bundled network but for its numbers."""
    pytest.importorskip("torch", reason="PyTorch is the extra `train`")
    x, y = models.test_data(ENTRIES["fashion-resnet"])
    write_idx(tmp_path, "train", x[:80], y[:80])
    write_idx(tmp_path, "t10k", x[80:90], y[80:90])
    output = tmp_path / "network.onnx"
    command = [sys.executable, "-m", "snnc.models.fashion_resnet", str(tmp_path), "-o", str(output)]
    result = subprocess.run(
        [*command, "--epochs", "1", "--hold-out", "16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    made, bundled = onnx.load(output), onnx.load(ENTRIES["fashion-resnet"].path)
    assert made.graph.node == bundled.graph.node
    stated = float(result.stdout.split("top-1 ")[-1].split()[0])
    inputs = measure.prepare(x[80:90], ENTRIES["fashion-resnet"].preprocessing)
    assert measure.top1(output, inputs, y[80:90]) == pytest.approx(stated)
    assert math.isfinite(sum(onnx.numpy_helper.to_array(t).sum() for t in made.graph.initializer))
    assert sorted(path.name for path in tmp_path.glob("*network*")) == ["network.onnx"]


def test_the_images_of_cifar_are_read_from_an_archive(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=r"cifar10_test_dev\.npz cannot be read"):
        cifar10.read(tmp_path, "test")
    np.savez(tmp_path / "cifar10_test_dev.npz", x=x, y=np.arange(5))
    images, labels = cifar10.read(tmp_path, "test")
    np.testing.assert_array_equal(images, x.transpose(0, 3, 1, 2))
    assert labels.tolist() == [0, 1, 2, 3, 4]
    np.savez(tmp_path / "cifar10_train.npz", x=x[:, :8], y=np.arange(5))
    with pytest.raises(InputError, match=r"uint8 \(N, 32, 32, 3\)"):
        cifar10.read(tmp_path, "train")
    np.savez(tmp_path / "cifar10_train.npz", x=x)
    with pytest.raises(InputError, match="arrays x and y"):
        cifar10.read(tmp_path, "train")
