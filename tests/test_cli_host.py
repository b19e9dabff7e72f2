"""What the verbs do with a network of which ordinary ONNX keeps a part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.cli import main
from snnc.errors import UsageError
from tests.test_host_sections import detector, network, rows, run

NODES = ("sort", "add", "again", "rank", "light", "lightest", "gate")


@dataclass(frozen=True)
class Made:
    folder: Path
    model: Path
    artefact: Path
    x: Path
    data: Path

    @property
    def calib(self) -> Path:
        return self.folder / "calib.npz"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("host")
    found = Made(folder, *(folder / name for name in ("n.onnx", "n.snn.onnx", "x.npy", "t.npz")))
    onnx.save(network(), found.model)
    np.save(found.x, rows(12, 9))
    np.savez(found.data, x=rows(48, 9))
    np.savez(found.calib, x=rows(96))
    arguments = ("--calib", found.calib, "-T", 4, "--preset", "fast", "--threads", 1, "-o", found.artefact)
    assert main(["convert", str(found.model), *map(str, arguments)]) == 0
    return found


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_check_names_every_node(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(made.model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(NODES, lines[1:-1], strict=True):
        assert f"{name!r}: " in line
        assert line.strip().startswith(("prefix", "suffix"))
    assert "spikes do all of the" in lines[0]
    assert lines[-1].endswith("can be converted")
    host = told(capsys, "check", made.model)["host"]
    assert host["spiking_share"] == 1
    assert [node["name"] for node in host["nodes"]] == list(NODES)
    assert all(node["reason"] and node["latency_steps"] == 0 for node in host["nodes"])
    assert [node["name"] for node in host["nodes"] if node["cause"]][:3] == ["sort", "again", "rank"]


def test_a_part_that_is_not_allowed_is_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "check", made.model, "--host", "none", code=3)
    assert found["host"] is None
    assert {item["node"] for item in found["diagnostics"]} >= {"sort", "rank"}
    out = made.folder / "none.snn.onnx"
    arguments = ("--calib", made.calib, "-T", 4, "--preset", "fast", "--host", "none", "-o", out)
    assert main(["convert", str(made.model), *map(str, arguments)]) == 3
    assert not out.exists()
    capsys.readouterr()
    assert main(["check", str(made.model), "--host", "all"]) == 2
    assert "'all' is not one of" in capsys.readouterr().err


def test_dry_run_and_inspect_name_them(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    dry = told(capsys, "convert", made.model, "--calib", made.calib, "-T", 4, "--preset", "fast", "--dry-run")
    shown = told(capsys, "inspect", made.artefact)
    assert dry["host"] == shown["host"]
    assert main(["inspect", str(made.artefact)]) == 0
    text = capsys.readouterr().out
    assert all(f"{name!r}" in text for name in NODES)


def test_convert_says_so_in_one_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--calib", made.calib, "-T", 4, "--preset", "fast", "-o", made.artefact, "--force")
    assert main(["convert", str(made.model), *map(str, arguments)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "ordinary ONNX" in line]
    assert len(said) == 1
    assert said[0].startswith("7 nodes run as ordinary ONNX (prefix and suffix: ")


def test_run_writes_the_source_s_output(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = None
    for backend in ("reference", "numba", "onnx"):
        out = made.folder / f"{backend}.npy"
        assert (
            main(["run", str(made.artefact), "--input", str(made.x), "-o", str(out), "--backend", backend])
            == 0
        )
        found = np.load(out)
        assert found.shape == (12, 5)
        wanted = found if wanted is None else wanted
        np.testing.assert_array_equal(found, wanted)
    (whole,) = run(onnx.load(made.artefact), {"image": np.load(made.x)})
    np.testing.assert_array_equal(whole, wanted)
    capsys.readouterr()
    steps = ("run", made.artefact, "--input", made.x, "-o", made.folder / "s.npy", "--per-step")
    assert main([*map(str, steps)]) == 2
    assert "behind the last step" in capsys.readouterr().err


def test_metrics_are_those_of_the_whole(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = told(capsys, "eval", made.artefact, "--data", made.data, "--against", "source")
    reported = told(capsys, "report", made.artefact, "--data", made.data)
    compared = told(capsys, "compare", made.model, made.artefact, "--data", made.data)
    x = np.load(made.data)["x"]
    (source,) = run(onnx.load(made.model), {"image": x}, plain=False)
    (spiking,) = run(onnx.load(made.artefact), {"image": x}, plain=False)
    sqnr = 10 * np.log10(np.square(source).sum() / np.square(spiking - source).sum())
    for found in (evaluated, reported, compared.get("answers", compared)):
        assert found["metrics"]["sqnr"]["value"] == pytest.approx(sqnr, abs=1e-3)
    assert evaluated["host"] == reported["host"]
    assert evaluated["ann"]["macs"] == evaluated["host"]["macs"]


def test_no_bundle_holds_them(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("akida", "c99", "loihi", "nir", "spiking-onnx"):
        folder = made.folder / target
        assert main(["deploy", str(made.artefact), "--target", target, "-o", str(folder)]) == 6
        assert not folder.exists()
        assert "ordinary ONNX in the prefix" in capsys.readouterr().err
    found = told(capsys, "check", made.artefact, "--target", "c99", code=6)
    assert [item["node"] for item in found["diagnostics"]][: len(NODES)] == list(NODES)


def test_half_a_network_is_not_judged(made: Made) -> None:
    from snnc.analysis.evaluation import evaluate
    from snnc.artefact import load
    from snnc.backends import load_simulator

    artefact = load(made.artefact)
    with pytest.raises(UsageError, match=r"artefact\.finish"):
        evaluate(artefact.graph, artefact.encode, rows(4), None, simulator=load_simulator("numba", 1))


def test_every_output_of_a_detector_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, data = tmp_path / "d.onnx", tmp_path / "d.snn.onnx", tmp_path / "d.npz"
    onnx.save(detector(), model)
    np.savez(data, x=rows(64))
    arguments = ("--calib", data, "-T", 4, "--preset", "fast", "--threads", 1, "-o", out)
    assert main(["convert", str(model), *map(str, arguments)]) == 0
    found = told(capsys, "eval", out, "--data", data, "--against", "source", "--metric", "sqnr")
    assert set(found["outputs"]) == {"scores", "boxes"}
    x = np.load(data)["x"]
    for name, source, spiking in zip(
        ("scores", "boxes"),
        run(onnx.load(model), {"image": x}, plain=False),
        run(onnx.load(out), {"image": x}, plain=False),
        strict=True,
    ):
        sqnr = 10 * np.log10(np.square(source).sum() / np.square(spiking - source).sum())
        assert found["outputs"][name]["metrics"]["sqnr"]["value"] == pytest.approx(sqnr, abs=1e-3)


def test_a_budget_keeps_to_the_part_that_is_allowed(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    out = made.folder / "budget.snn.onnx"
    arguments = ("--calib", made.calib, "--max-latency", 2, "--host", "none", "-o", out)
    assert main(["convert", str(made.model), *map(str, arguments)]) == 3
    assert not out.exists()
    assert "'sort'" in capsys.readouterr().err


def test_hybrids_are_not_judged_before_the_host(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bisect", str(made.artefact), "--data", str(made.data)]) == 2
    assert "snnc report" in capsys.readouterr().err


def test_the_curve_is_of_the_whole(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """What ordinary ONNX made of a read-out is no read-out, whose scale belongs to it."""
    asked = ("--data", made.data, "--task", "regression")
    curve = told(capsys, "report", made.artefact, *asked, "--curve", "2,4")["accuracy_against_timesteps"]
    for point in curve["this_artefact"]:
        at = ("-T", point["timesteps"], "--against", "source", "--metric", "r2")
        judged = told(capsys, "eval", made.artefact, *asked, *at)
        assert point["r2"] == pytest.approx(judged["metrics"]["r2"]["value"], abs=1e-6)
        assert point["r2"] > 0
