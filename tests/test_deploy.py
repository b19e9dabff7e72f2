"""Bundles: what `snnc deploy` writes, what `snnc verify` finds, and what both must refuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact, save
from snnc.backends import BACKENDS, load_backend, manifest
from snnc.backends.deployment import check_directory, deploy, verify
from snnc.backends.golden import FILE as GOLDEN
from snnc.backends.golden import make_golden
from snnc.backends.nir import Nir
from snnc.cli import main
from snnc.errors import ArtefactError, GateError, InputError, InternalError, TargetError, UsageError
from snnc.ir.snn import IntegrateFire
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants
from tests.nir_networks import BARRIER, residual
from tests.spiking_graphs import as_float, random_graph

WHOLE = [name for name in BACKENDS if load_backend(name).capabilities.every_integer_network]
FORMS = [(name, profile) for name in WHOLE for profile in load_backend(name).capabilities.profiles]


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return Artefact(random_graph(4))


@pytest.fixture
def file(artefact: Artefact, tmp_path: Path) -> Path:
    path = tmp_path / "network.snn.onnx"
    save(artefact, path)
    return path


@pytest.fixture
def bundle(artefact: Artefact, tmp_path: Path) -> Path:
    return deploy(artefact, load_backend("spiking-onnx"), tmp_path / "bundle").directory


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(("target", "profile"), FORMS)
def test_a_bundle_says_what_it_is(
    target: str, profile: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = told(capsys, "deploy", file, "--target", target, "--profile", profile, "-o", out)
    assert found["golden"]["distinct_outputs"] > 4
    content = json.loads((out / manifest.NAME).read_text(encoding="utf-8"))
    assert set(found["files"]) == {manifest.NAME, *content["files"]}
    for name, expected in content["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == expected
    assert {"README.md", GOLDEN} < set(content["files"])
    assert (content["target"], content["profile"], content["schema_version"]) == (target, profile, 1)
    assert content["source"]["artefact"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert f"T = {content['latency']['timesteps']}" in readme
    assert repr(content["input"]["scale"]) in readme
    assert target in readme


def test_the_golden_vectors_are_the_oracle_s(artefact: Artefact, bundle: Path) -> None:
    graph = artefact.graph
    content = manifest.read(bundle)
    with np.load(bundle / GOLDEN) as arrays:
        x, q, y = arrays["x"], arrays["q"], arrays["y"]
    np.testing.assert_array_equal(artefact.encode(x), q)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True))
    np.testing.assert_array_equal(trace.logits, y)
    assert len(np.unique(y, axis=0)) == content["golden"]["distinct_outputs"] > 4
    populations = graph.of_type(IntegrateFire)
    assert [row["population"] for row in content["golden"]["states"]] == [node.name for node in populations]
    for row in content["golden"]["states"]:
        counts = trace.counts[row["population"]].astype("<i4")
        assert hashlib.sha256(counts.tobytes()).hexdigest() == row["N_sha256"]
        assert counts.any()


def test_golden_rows_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = quadrants.write(tmp_path)
    network, out = tmp_path / "n.snn.onnx", tmp_path / "out"
    data = ["--calib", files.calibration, "--preprocess", files.preprocessing]
    assert main(list(map(str, ["convert", files.model, *data, "-o", network]))) == 0
    told(capsys, "deploy", network, "--target", "spiking-onnx", "--golden", files.test, "-o", out)
    content = manifest.read(out)
    assert content["input"]["preprocessing"]["divide"] == 255.0
    assert content["source"]["network"]["sha256"] == hashlib.sha256(files.model.read_bytes()).hexdigest()
    with np.load(out / GOLDEN) as arrays, np.load(files.test) as test:
        right = arrays["y"].argmax(axis=1) == test["y"][: len(arrays["y"])]
    assert right.mean() > 0.8, "the golden outputs are those of the user's rows"


def test_the_same_artefact_gives_the_same_bytes(artefact: Artefact, tmp_path: Path) -> None:
    for name in WHOLE:
        one, two = (deploy(artefact, load_backend(name), tmp_path / f"{name}{i}") for i in range(2))
        assert one.files == two.files
        for file in one.files:
            assert (one.directory / file).read_bytes() == (two.directory / file).read_bytes()


def test_a_target_that_should_be_equal_and_is_not_is_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = residual(BARRIER)
    backend = load_backend("nir")
    assert isinstance(backend, Nir)
    y = backend.emulate(graph, np.zeros((8, *graph.encoder.shape), np.int32))
    monkeypatch.setattr(backend, "emulate", lambda graph, q: y)
    with pytest.raises(InternalError, match="gives other results than the reference"):
        deploy(Artefact(graph), backend, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_verify_tells_what_ran(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "verify", bundle)
    assert found["run"]["runner"].startswith("onnxruntime ")
    assert found["run"]["rows"] == 8
    assert told(capsys, "verify", bundle, "--hashes-only")["run"] is None
    (bundle / "notes of the integrator.txt").write_text("may stay", encoding="utf-8")
    told(capsys, "verify", bundle)


def _truncate(bundle: Path) -> None:
    path = bundle / "network.onnx"
    path.write_bytes(path.read_bytes()[:-10])


def _remove(bundle: Path) -> None:
    (bundle / GOLDEN).unlink()


def _edit_manifest(bundle: Path) -> None:
    path = bundle / manifest.NAME
    path.write_text(path.read_text(encoding="utf-8").replace('"timesteps": 4', '"timesteps": 8'), "utf-8")


def _cut_manifest(bundle: Path) -> None:
    path = bundle / manifest.NAME
    path.write_bytes(path.read_bytes()[:100])


def _lose_manifest(bundle: Path) -> None:
    (bundle / manifest.NAME).unlink()


def _foreign_manifest(bundle: Path) -> None:
    (bundle / manifest.NAME).write_text("[1, 2]", encoding="utf-8")


def _newer(bundle: Path) -> None:
    path = bundle / manifest.NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "schema_version": 2, "snnc_version": "9.0"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "network.onnx altered"),
        (_remove, f"{GOLDEN} missing"),
        (_edit_manifest, "does not match its own SHA-256"),
        (_cut_manifest, "not valid JSON"),
        (_lose_manifest, "not a bundle"),
        (_foreign_manifest, "not written by snnc"),
        (_newer, "newer snnc: 9.0, schema 2"),
    ],
)
def test_damage_is_found(
    damage: Callable[[Path], None], message: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(bundle)
    assert message in refused(capsys, "verify", bundle, code=5)


def test_no_bundle_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a folder" in refused(capsys, "verify", tmp_path / "nothing", code=5)


def _rewritten(bundle: Path, **changes: Any) -> None:
    content = {k: v for k, v in manifest.read(bundle).items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**content, **changes})


def test_files_outside_the_folder_are_not_read(bundle: Path) -> None:
    (bundle.parent / "outside").write_text("secret", encoding="utf-8")
    content = manifest.read(bundle)
    with pytest.raises(ArtefactError, match="outside its folder"):
        manifest.check_files(bundle, {"files": {**content["files"], "../outside": "0"}})


def test_a_bundle_for_an_unknown_target(bundle: Path) -> None:
    _rewritten(bundle, target="abacus")
    with pytest.raises(ArtefactError, match="abacus"):
        verify(bundle)
    assert verify(bundle, run=False).verdict is None


def test_other_results_than_expected_miss_the_gate(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(bundle / GOLDEN) as arrays:
        values = dict(arrays)
    values["y"][3] += 1
    np.savez(bundle / GOLDEN, **values)
    _rewritten(bundle)
    assert "1 of 8 golden inputs" in refused(capsys, "verify", bundle, code=4)
    with pytest.raises(GateError):
        verify(bundle)


def test_nothing_is_overwritten_without_force(
    artefact: Artefact, file: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in bundle.iterdir()}
    arguments = ("deploy", file, "--target", "spiking-onnx", "--export", "scan", "-o", bundle)
    assert "--force" in refused(capsys, *arguments, code=2)
    assert {path: path.read_bytes() for path in bundle.iterdir()} == before
    told(capsys, *arguments, "--force")
    assert manifest.read(bundle)["profile"] == "scan"
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "network.snn.onnx"]


def test_force_replaces_only_bundles(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work", encoding="utf-8")
    arguments = ("deploy", file, "--target", "spiking-onnx", "--force", "-o")
    assert "is not a bundle" in refused(capsys, *arguments, home, code=5)
    assert (home / "thesis.tex").exists()
    assert "not a folder" in refused(capsys, *arguments, file, code=5)
    assert "does not exist" in refused(capsys, *arguments, tmp_path / "a" / "b", code=5)
    with pytest.raises(InputError, match="cannot be written"):
        check_directory(tmp_path / ("a" * 300), force=True)


def test_a_failure_leaves_nothing_behind(
    artefact: Artefact, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in bundle.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(InputError, match="No space left"):
        deploy(artefact, load_backend("spiking-onnx"), bundle, force=True)
    assert {path: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "kept aside"])
def test_the_old_bundle_outlives_a_new_one_that_cannot_take_its_place(
    restored: bool, artefact: Artefact, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self == bundle or (restored and self.suffix == ".old"):
            return rename(self, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="No space left"):
        deploy(artefact, load_backend("spiking-onnx"), bundle, force=True)
    (left,) = bundle.parent.iterdir()
    assert left.suffix == ("" if restored else ".old")
    assert {path.name: path.read_bytes() for path in left.iterdir()} == before


def test_an_interrupt_leaves_the_old_bundle(
    artefact: Artefact, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in bundle.iterdir()}
    rename = Path.rename

    def interrupt(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self == bundle:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        deploy(artefact, load_backend("spiking-onnx"), bundle, force=True)
    assert {path: path.read_bytes() for path in bundle.iterdir()} == before
    assert list(bundle.parent.iterdir()) == [bundle]


@pytest.mark.parametrize("target", BACKENDS)
def test_what_does_not_fit_is_told_before_anything_is_written(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "float.snn.onnx", tmp_path / "out"
    save(Artefact(as_float(random_graph(4))), path)
    assert "--precision int8" in refused(capsys, "deploy", path, "--target", target, "-o", out, code=6)
    assert not out.exists()
    found = told(capsys, "check", path, "--target", target, code=6)
    assert not found["supported"]
    assert {item["code"] for item in found["diagnostics"]} == {"SNN401"}
    assert all(item["node"] and item["help"] for item in found["diagnostics"])
    with pytest.raises(TargetError) as caught:
        deploy(Artefact(as_float(random_graph(4))), load_backend(target), out)
    assert caught.value.diagnostics


def test_check_before_the_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = quadrants.write(tmp_path).model
    for target in sorted(BACKENDS.keys() - {"akida", "loihi"}):
        assert told(capsys, "check", model, "--target", target)["supported"]
    (wide,) = told(capsys, "check", model, "--target", "loihi", code=6)["diagnostics"]
    assert "lower.input-limit" in wide["help"], "the chip's integers are shorter than the default's"
    found = told(capsys, "check", model, "--target", "akida", code=6)["diagnostics"]
    assert any("set-schedule.kind=layerwise" in item["help"] for item in found)
    assert "--profile needs" in refused(capsys, "check", model, "--profile", "x", code=2)
    assert "unknown target" in refused(capsys, "check", model, "--target", "abacus", code=2)


def test_targets_are_listed_from_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    listed = told(capsys, "targets")
    assert "not verified" in listed["not_offered"]["SpiNNaker2"]
    rows = {row["name"]: row for row in listed["targets"]}
    assert list(rows) == list(BACKENDS)
    assert list(rows["spiking-onnx"]["profiles"]) == ["function", "inlined", "unrolled", "scan"]
    assert main(["targets", "--format", "markdown"]) == 0
    table = capsys.readouterr().out
    page = (Path(__file__).parent.parent / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert table in page, "put the output of snnc targets --format markdown into docs/deployment.md"
    assert main(["targets"]) == 0
    assert "onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "profile"), [("abacus", None), ("spiking-onnx", "loop")])
def test_unknown_names(target: str, profile: str | None) -> None:
    with pytest.raises(UsageError, match="known: "):
        load_backend(target, profile)


@pytest.mark.parametrize("target", WHOLE)
def test_no_golden_rows_at_all(target: str, artefact: Artefact, tmp_path: Path) -> None:
    rows = np.zeros((0, *artefact.graph.encoder.shape), np.float32)
    with pytest.raises(InputError, match="give at least one"):
        deploy(artefact, load_backend(target), tmp_path / "out", rows=rows)
    assert not any(tmp_path.iterdir())


def test_made_up_rows_survive_a_dead_channel_of_the_normalisation(artefact: Artefact) -> None:
    graph = artefact.graph
    encode = graph.nodes[0]
    gain = np.zeros(encode.channels, np.float32)
    dead = graph.with_nodes((encode.with_(gain=gain, offset=gain), *graph.nodes[1:]))
    assert np.isfinite(make_golden(Artefact(dead)).x).all()


def test_figures_for_people(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["deploy", str(file), "--target", "c99", "-o", str(out)]) == 0
    text = capsys.readouterr().out
    facts = manifest.read(out)["facts"]
    assert f"\nRAM: {facts['ram_bytes']:,} bytes\n" in text
    assert " files, the manifest among them, for c99" in text
    assert main(["verify", str(out), "--hashes-only"]) == 0
    assert "the manifest and 11 files as it says" in capsys.readouterr().out
