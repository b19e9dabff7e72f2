"""NIR bundles: what is in them, what is told before they are written, and what must be refused."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact, save
from snnc.backends import manifest
from snnc.backends.deployment import deploy, verify
from snnc.backends.golden import FILE as GOLDEN
from snnc.backends.nir import Nir, file, runner
from snnc.backends.nir.profiles import PROFILES
from snnc.backends.nir.program import Conv, Dense, Fire, Program
from snnc.cli import main
from snnc.errors import ArtefactError, UsageError
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron
from snnc.ir.snn import (
    Concat,
    Convolution,
    CountMaxPool,
    IntegrateFire,
    SnnGraph,
)
from tests.nir_networks import BARRIER, JOINED_AND_POOLED, reference, residual
from tests.spiking_graphs import random_graph


@pytest.fixture(scope="module")
def barrier() -> Artefact:
    return Artefact(residual(BARRIER))


@pytest.fixture(scope="module")
def in_time() -> Artefact:
    return Artefact(residual())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == code
    out, err = capsys.readouterr()
    assert "hello" not in out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


# Bundles.


@pytest.mark.parametrize("profile", PROFILES)
def test_a_bundle_of_a_barrier_network(profile: str, barrier: Artefact, tmp_path: Path) -> None:
    bundle = deploy(barrier, Nir(profile), tmp_path / "bundle").directory
    content = manifest.read(bundle)
    assert content["exact"]
    assert content["semantics"] == {"differences": [], "measured": None}
    assert content["facts"]["steps"] == 1
    assert content["payload"] == "binary"
    with np.load(bundle / GOLDEN) as golden:
        np.testing.assert_array_equal(golden["y"], reference(barrier.graph, golden["q"]))
        assert len(np.unique(golden["y"], axis=0)) > 4
    found = verify(bundle)
    assert found.verdict is not None
    assert found.verdict.wrong == 0
    assert f"{profile} itself is not installed" in found.verdict.runner
    two = deploy(barrier, Nir(profile), tmp_path / "two")
    for name in two.files:
        assert (two.directory / name).read_bytes() == (bundle / name).read_bytes()


@pytest.mark.parametrize("profile", PROFILES)
def test_other_semantics_must_be_accepted(
    profile: str, in_time: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out, data = tmp_path / "n.snn.onnx", tmp_path / "out", tmp_path / "data.npz"
    save(in_time, path)
    shape = in_time.graph.nodes[0].shape
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    q = in_time.encode(x)
    right = reference(in_time.graph, q).argmax(axis=1)
    answers = Nir(profile).emulate(in_time.graph, q).argmax(axis=1)
    np.savez(data, x=x, y=right)
    arguments = ("deploy", path, "--target", "nir", "--profile", profile, "--data", data, "-o", out)
    message = refused(capsys, *arguments, code=6)
    same = int((answers == right).sum())
    assert same > 0
    for text in (f"{100 * same / 40:.1f} % right, the artefact 100.0 %", "--accept-semantics", "layerwise"):
        assert text in message
    assert not out.exists()
    assert main([*map(str, arguments), "--accept-semantics"]) == 0
    told = capsys.readouterr().out
    assert told.index("measured: ") < told.index("wrote ")
    content = manifest.read(out)
    assert not content["exact"]
    assert content["semantics"]["measured"]["target_correct"] == same
    assert content["semantics"]["differences"]
    with np.load(out / GOLDEN) as golden:
        np.testing.assert_array_equal(golden["y"], Nir(profile).emulate(in_time.graph, golden["q"]))
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "It does not compute the same as the artefact" in readme
    assert f"{profile}=={PROFILES[profile].version}" in readme
    capsys.readouterr()
    assert main(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["rows"] == 8


def test_without_labels_agreement_is_told(
    in_time: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "n.snn.onnx", tmp_path / "out"
    save(in_time, path)
    message = refused(capsys, "deploy", path, "--target", "nir", "-o", out, code=6)
    assert "layerwise" in message
    assert "no labels, so no accuracy" in message
    assert "of 8 rows" in message


def test_the_data_sheet_of_a_chip_is_no_verification(barrier: Artefact, tmp_path: Path) -> None:
    bundle = deploy(barrier, Nir("sinabs"), tmp_path / "bundle").directory
    (fit,) = manifest.read(bundle)["facts"]["fit"]
    assert (fit["chip"], fit["verified"], fit["fits"]) == ("Speck 2e", False, False)
    assert any("events" in reason for reason in fit["reasons"])
    assert "**Not verified:**" in (bundle / "README.md").read_text(encoding="utf-8")


# Bad input.


def test_everything_that_does_not_fit_is_told_with_a_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = random_graph(JOINED_AND_POOLED)
    assert {Concat, CountMaxPool} <= {type(node) for node in graph}
    path = tmp_path / "n.snn.onnx"
    save(Artefact(graph), path)
    capsys.readouterr()
    assert main(["check", str(path), "--target", "nir", "--json"]) == 6
    found = json.loads(capsys.readouterr().out)["diagnostics"]
    assert all(item["node"] and item["help"] for item in found)
    reasons = " ".join(item["message"] for item in found)
    assert "cannot join" in reasons
    assert "no max-pooling" in reasons
    assert "and" in refused(capsys, "deploy", path, "--target", "nir", "-o", tmp_path / "out", code=6)
    assert not (tmp_path / "out").exists()


def test_levels_need_a_neuron_of_several_spikes(in_time: Artefact) -> None:
    neuron = Neuron(levels=3)
    graph = in_time.graph.map(IntegrateFire, lambda node: node.with_(neuron=neuron))
    reasons = [item.reason for item in Nir("norse").check(graph)]
    assert reasons == ["a spike carries 3 levels, those of norse carry one"] * len(reasons)
    assert len(reasons) == len(graph.of_type(IntegrateFire))
    assert Nir("sinabs").check(graph) == ()


def test_an_input_too_fine_for_float32_is_told_where_and_how_to_mend_it() -> None:
    graph = residual(BARRIER)
    first = graph[graph.consumers[graph.nodes[0].name][0].name]
    assert isinstance(first, Convolution)
    heavy = np.full_like(first.weight, 127).repeat(24, axis=2).repeat(24, axis=3)
    window = Window(heavy.shape[2:], pads=(36, 36, 36, 36), strides=first.window.strides)
    shape = (first.shape[0], *window.output_size(*graph.nodes[0].shape[1:]))
    large = SnnGraph(
        name="large",
        nodes=(
            graph.nodes[0].with_(limit=2047),
            first.with_(weight=heavy, window=window, shape=shape),
            next(n for n in graph.of_type(IntegrateFire)).with_(inputs=(first.name,), shape=shape),
        ),
        outputs=(graph.of_type(IntegrateFire)[0].name,),
        timesteps=4,
        schedule=BARRIER,
    )
    (found,) = Nir("sinabs").check(large)
    assert found.node == large.output
    assert "too much to be exact in float32" in found.reason
    assert "lower.input-limit=" in found.help


def test_unknown_profile() -> None:
    with pytest.raises(UsageError, match="known: spikingjelly, snntorch, norse, sinabs"):
        Nir("abacus")


def test_without_h5py_nothing_is_written(
    barrier: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> ModuleType:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **options)

    bundle = deploy(barrier, Nir(), tmp_path / "bundle").directory
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install h5py"):
        deploy(barrier, Nir(), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(UsageError, match="h5py"):
        verify(bundle)
    assert verify(bundle, run=False).verdict is None


def test_a_tampered_network_is_found_by_its_hash(
    barrier: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = deploy(barrier, Nir(), tmp_path / "bundle").directory
    path = bundle / runner.FILE
    path.write_bytes(path.read_bytes()[:-100])
    assert "network.nir altered" in refused(capsys, "verify", bundle, code=5)
    _rehash(bundle, {})
    assert "no NIR file as snnc writes it" in refused(capsys, "verify", bundle, code=5)
    assert "exists already" in refused(
        capsys, "deploy", tmp_path / "none", "--target", "nir", "-o", bundle, code=2
    )


def test_another_network_in_the_bundle_misses_the_golden_outputs(
    barrier: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = deploy(barrier, Nir(), tmp_path / "bundle").directory
    program = Nir().program(barrier.graph)
    last = program.steps[-1]
    assert isinstance(last.layer, Conv | Dense)
    swapped = replace(last, layer=replace(last.layer, bias=last.layer.bias + np.float32(1)))
    changed = Program(program.shape, (*program.steps[:-1], swapped), 1)
    file.write(changed, PROFILES["spikingjelly"], bundle / runner.FILE)
    _rehash(bundle, {})
    assert "8 of 8 golden inputs" in refused(capsys, "verify", bundle, code=4)


def test_a_script_in_a_bundle_is_not_run(
    barrier: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle's own script would write a file, and is found altered; so is a name that is a program."""
    bundle = deploy(barrier, Nir("norse"), tmp_path / "bundle").directory
    mark = tmp_path / "mark"
    (bundle / runner.SCRIPT).write_text(f"open({str(mark)!r}, 'w')", encoding="utf-8")
    _rehash(bundle, {})
    with pytest.raises(ArtefactError, match=r"run\.py altered"):
        verify(bundle)
    assert not mark.exists()
    evil = f'x",\n)\nopen({str(mark)!r}, "w")\n_ = ("'
    program = Nir("norse").program(barrier.graph)
    steps = [replace(step, name=evil) if isinstance(step.layer, Fire) else step for step in program.steps]
    code = compile(runner.script(replace(program, steps=tuple(steps)), PROFILES["norse"]), "run.py", "exec")
    (names,) = (value for value in code.co_consts if isinstance(value, tuple) and evil in value)
    assert set(names) == {evil}


def test_a_consumer_that_is_found_but_does_not_work(
    barrier: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = deploy(barrier, Nir("norse"), tmp_path / "bundle").directory
    site = tmp_path / "site"
    site.mkdir()
    (site / "norse.py").write_text("raise ImportError('halfway', name='norse.torch')", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "norse", raising=False)
    with pytest.raises(UsageError, match="is not installed: python -m pip install"):
        verify(bundle)


def test_what_a_consumer_says_stays_out_of_our_output(
    barrier: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A consumer that is installed, talks, and fails."""
    bundle = deploy(barrier, Nir("norse"), tmp_path / "bundle").directory
    site = tmp_path / "site"
    site.mkdir()
    (site / "norse.py").write_text("print('hello'); raise ValueError('no such node')", encoding="utf-8")
    (site / "torch.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    for name in ("norse", "torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    message = refused(capsys, "verify", bundle, "--json", code=5)
    assert "norse does not run it: no such node" in message
    for name in ("norse", "torch"):
        sys.modules.pop(name, None)


def test_a_newer_bundle(barrier: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = deploy(barrier, Nir("sinabs"), tmp_path / "bundle").directory
    path = bundle / manifest.NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "schema_version": 99}), encoding="utf-8")
    assert "newer snnc" in refused(capsys, "verify", bundle, code=5)


def test_no_facts_no_run(barrier: Artefact, tmp_path: Path) -> None:
    bundle = deploy(barrier, Nir(), tmp_path / "bundle").directory
    _rehash(bundle, {"facts": {}})
    with pytest.raises(ArtefactError, match="does not say how many steps"):
        verify(bundle)


def _rehash(bundle: Path, changes: Mapping[str, Any]) -> None:
    content = json.loads((bundle / manifest.NAME).read_text(encoding="utf-8"))
    kept = {k: v for k, v in content.items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**kept, **changes})
