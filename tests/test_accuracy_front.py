"""The benchmark of sparse conversions on a toy network: a setting, a tuned artefact, and the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.front import SETTINGS
from benchmarks.accuracy.weight_size import weight_bytes
from snnc.artefact import load, save
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.ir import snn
from snnc.numerics.quantisation import quantise_all
from snnc.pass_options import once
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from tests import quadrants
from tests.ann_graphs import residual_network
from tests.test_accuracy import ROOT, shared
from tests.test_passes_snn import lowered

__all__ = ["shared"]


def front(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.accuracy.front", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def test_every_setting_has_a_name_of_its_own_and_passes_that_there_are() -> None:
    once([(each.name, each.label) for each in SETTINGS], "setting")
    once([(each.label, each.name) for each in SETTINGS], "label")
    for each in SETTINGS:
        Pipeline.parse(each.pipeline, PASSES)


def test_weights_are_counted_at_their_bits_in_the_smaller_form() -> None:
    spiking, _ = lowered(residual_network())
    whole, few = quantise_all(spiking), quantise_all(spiking, 4)
    weights = {node.name: node.weight for node in whole.of_type(snn.Weighted)}
    assert weight_bytes(whole) == sum(weight.nbytes for weight in weights.values())
    assert weight_bytes(few) < weight_bytes(whole)

    def nearly_empty(node: snn.Convolution) -> snn.Convolution:
        weight = np.zeros_like(node.weight)
        weight.flat[0] = 127
        return node.with_(weight=weight)

    empty = whole.map(snn.Convolution, nearly_empty)
    convolutions = [node.weight for node in whole.of_type(snn.Convolution)]
    saved = sum(weight.size - -(-(8 + weight.size) // 8) for weight in convolutions)
    assert weight_bytes(empty) == weight_bytes(whole) - saved


def tuned(path: Path) -> Path:
    """Write an artefact that says that it was tuned."""
    x, _ = quadrants.images(100, 1)
    model = path.parent / "net.onnx"
    model.write_bytes(quadrants.network().SerializeToString())
    preprocessing = Preprocessing.from_dict(quadrants.PREPROCESSING)
    made = convert(model, x, Options(timesteps=1, preset="one-step"), preprocessing=preprocessing).artefact
    recipe = {"minutes": 5.0, "epochs": None, "density": 0.1}
    record = {"pass": "tune", "recipe": recipe, "rows": 100, "labels": True}
    save(replace(made, metadata=replace(made.metadata, records=(*made.metadata.records, record))), path)
    return path


def test_settings_and_tuned_artefacts_come_into_one_table(shared: Path, tmp_path: Path) -> None:
    measured, page = tmp_path / "measured", tmp_path / "docs" / "sparsity.md"
    common = ("--shared", shared, "--measured", measured)
    artefact = tuned(tmp_path / "tuned.snn.onnx")
    done = front(*common, "--settings", "n4w4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("n4w4: ")
    assert front(*common, "--settings", "n4w4").stdout == ""  # nothing is measured twice
    done = front(*common, "--tuned", f"sparse={artefact}")
    assert done.returncode == 0, done.stderr
    done = front(*common, "--settings", "n4w4", "--limit", 50)  # a trial, of which the page tells nothing
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (measured / "sparsity.jsonl").read_text().splitlines()]
    assert [row["setting"] for row in rows] == ["n4w4", "tuned:sparse", "n4w4"]
    assert rows[0]["n"] == rows[1]["n"] > rows[2]["n"] == 50
    assert rows[1]["recipe"]["minutes"] == 5
    page.parent.mkdir()
    page.write_text("# Sparsity\n\n<!-- measured: begin -->\n<!-- measured: end -->\n", encoding="utf-8")
    done = front("--measured", measured, "--report", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\n\| [12] \| quantised rival, int4 \| ", text)
    assert f"n = {rows[0]['n']} test images" in text
    assert re.search(r"\n\| [12] \| tuned, sparse, 5 min \| ", text)
    assert "No operations of other converters were measured" in text
    assert (page.parent / "pictures" / "sparsity-front.svg").exists()


@pytest.mark.parametrize("tuned_file", ["net.snn.onnx", "a=missing.snn.onnx", "=x"])
def test_artefacts_that_are_not_there_are_refused(shared: Path, tmp_path: Path, tuned_file: str) -> None:
    done = front("--shared", shared, "--measured", tmp_path, "--tuned", tuned_file)
    assert done.returncode == 2
    assert "write LABEL=FILE" in done.stderr


def test_only_tuned_artefacts_are_called_so(shared: Path, tmp_path: Path) -> None:
    path = tuned(tmp_path / "tuned.snn.onnx")
    plain = load(path)
    save(replace(plain, metadata=replace(plain.metadata, records=())), path)
    done = front("--shared", shared, "--measured", tmp_path, "--tuned", f"a={path}")
    assert done.returncode == 1
    assert "was not made by snnc tune" in done.stderr


def test_artefacts_of_other_networks_are_refused(shared: Path, tmp_path: Path) -> None:
    path = tuned(tmp_path / "tuned.snn.onnx")
    one = load(path)
    save(replace(one, metadata=replace(one.metadata, source_sha256="0" * 64)), path)
    done = front("--shared", shared, "--measured", tmp_path, "--tuned", f"a={path}")
    assert done.returncode == 1
    assert "was made of another network than " in done.stderr


def test_a_label_names_one_artefact(shared: Path, tmp_path: Path) -> None:
    path = tuned(tmp_path / "tuned.snn.onnx")
    done = front("--shared", shared, "--tuned", f"a={path}", "--tuned", f"a={path}")
    assert done.returncode == 2
    assert "is the label of" in done.stderr


def test_a_page_of_nothing_is_refused(tmp_path: Path) -> None:
    done = front("--measured", tmp_path / "none", "--report", tmp_path / "page.md")
    assert done.returncode == 1
    assert "holds no measurement on all rows" in done.stderr
    assert not (tmp_path / "none").exists()
