"""The verbs that show something: check, inspect, zoo, ops, explain, doctor."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import onnx
import pytest

import snnc
from snnc import diagnostics, errors
from snnc.cli import doctor, main
from snnc.diagnostics import CODES
from snnc.frontend import supported_operators
from snnc.ir.snn import IntegrateFire
from snnc.ir.text import print_graph
from snnc.models import list_models
from tests import quadrants

ROOT = Path(__file__).parent.parent


def shown(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return quadrants.write(tmp_path).model


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A network with two operators that cannot be converted."""
    proto = quadrants.network()
    proto.graph.node[1].op_type = "Hardmax"
    proto.graph.node.append(onnx.helper.make_node("ArgMax", ["f"], ["g"], "gate"))
    proto.graph.node[4].input[0] = "g"
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes[:4], nodes[5], nodes[4]])
    path = tmp_path / "bad.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_check_what_can_be_converted(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: can be converted\n"
    found = shown(capsys, "check", good)
    assert found == {"model": str(good), "supported": True, "host": None, "causes": [], "diagnostics": []}
    assert shown(capsys, "check", "zoo:fashion-resnet")["supported"]


def test_check_lists_everything_at_once(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bad)]) == 3
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[-1] == f"{bad}: cannot be converted, for 2 reasons"
    assert len(lines) == 4
    assert "SNN130" in lines[2]
    assert "'relu'" in lines[0]
    assert "'gate'" in lines[1]
    assert "cut it off" in lines[0]
    found = shown(capsys, "check", bad, code=3)
    assert not found["supported"]
    told = [(d["code"], d["node"]) for d in found["diagnostics"]]
    assert told == [("SNN101", "relu"), ("SNN101", "gate"), ("SNN130", "relu")]
    assert all(d["message"] and d["help"] for d in found["diagnostics"])


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 3)])
def test_check_for_other_tools(
    name: str, code: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    model = request.getfixturevalue(name)
    found = shown(capsys, "check", model, "--format", "sarif", code=code)
    (run,) = found["runs"]
    assert found["version"] == "2.1.0"
    assert run["tool"]["driver"]["name"] == "snnc"
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == rules
    errors = [result for result in run["results"] if result["level"] == "error"]
    places = [r["locations"][0]["logicalLocations"][0]["name"] for r in errors]
    assert places == ([] if name == "good" else ["relu", "gate"])


def test_check_needs_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for model in (empty, tmp_path / "missing.onnx", "zoo:missing"):
        assert main(["check", str(model)]) == 5
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device without end")
def test_check_does_not_read_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/dev/zero"]) == 5
    assert capsys.readouterr().err == "error: /dev/zero is a device: give an .onnx file\n"


def test_inspect(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good.parent
    out = folder / "out.snn.onnx"
    parts = ["--calib", folder / "calibration.npz", "--preprocess", folder / "preprocessing.json"]
    assert main(["convert", str(good), *map(str, parts), "-o", str(out), "-T", "3"]) == 0
    artefact = snnc.load(out)
    found = shown(capsys, "inspect", out, "--ir")
    assert found["timesteps"] == 3
    assert found["pipeline"] == artefact.metadata.pipeline
    assert found["source"] == {"path": str(good), "sha256": artefact.metadata.source_sha256}
    assert found["ir"] == print_graph(artefact.graph)
    (layer,), (node,) = found["layers"], artefact.graph.of_type(IntegrateFire)
    assert layer["threshold"] == [node.threshold.min(), node.threshold.max()]
    assert layer["shape"] == [2, 8, 8]
    assert main(["inspect", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("quadrants", "T = 3", "balanced", "200 rows", "relu", "2x8x8", "signed"):
        assert part in text
    assert "row_hashes" not in text
    assert main(["inspect", str(out), "--ir"]) == 0
    assert capsys.readouterr().out == print_graph(artefact.graph) + "\n"
    assert main(["inspect", str(good)]) == 5


def test_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "zoo")["models"]
    assert [m["name"] for m in found] == [entry.name for entry in list_models()]
    for model, entry in zip(found, list_models(), strict=True):
        assert model["sha256"] == entry.sha256
        assert model["top1"] == entry.accuracy.top1
        assert model["dataset"] == entry.dataset.name
    assert main(["zoo"]) == 0
    assert "zoo:fashion-resnet" in capsys.readouterr().out


def test_the_published_page_of_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--format", "markdown"]) == 0
    page = (ROOT / "docs" / "reference" / "zoo.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in page, "put snnc zoo --format markdown into docs/reference/zoo.md"
    assert main(["zoo", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["models"]) == len(list_models())


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    rows = supported_operators()
    assert [row["name"] for row in shown(capsys, "ops")["operators"]] == [row.name for row in rows]
    assert main(["ops", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["operators"]) == len(rows)
    assert main(["ops"]) == 0
    text = capsys.readouterr().out
    assert all(row.name in text for row in rows)


def test_the_published_table_of_operators(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--format", "markdown"]) == 0
    page = (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in page, "put the output of snnc ops --format markdown into docs/ops.md"


@pytest.mark.parametrize("number", CODES)
def test_explain(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", number.lower()]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{number} (")
    assert CODES[number].explanation.split()[0] in text
    found = shown(capsys, "explain", number)
    assert found["explanation"] == CODES[number].explanation
    page, _, anchor = found["page"].partition("#")
    heading = f"### {number}: {CODES[number].title} {{ #{anchor} }}\n"
    assert heading in (ROOT / "docs" / page).read_text(encoding="utf-8")


def test_the_published_page_of_diagnostics(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "reference" / "diagnostics.md").read_text(encoding="utf-8")
    assert main(["explain", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == page, "write snnc explain --format markdown into it"
    assert re.findall(r"\{ #(\w+) \}", page) == [number.lower() for number in CODES]
    exits = {kind.exit_code for kind in errors.SnncError.__subclasses__()}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", page, flags=re.MULTILINE)} == {0, *exits}
    assert main(["explain", "SNN101", "--format", "markdown"]) == 2


def test_every_code_is_listed_and_raised() -> None:
    """A code that the sources or the documentation name is one, and each is raised somewhere."""
    made = {name: value for name, value in vars(diagnostics).items() if isinstance(value, diagnostics.Code)}
    assert list(made.values()) == list(CODES.values())
    assert all(number[3] in diagnostics.GROUPS for number in CODES)
    folders = ("snnc", "passes", "backends", "models")
    sources = [path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")]
    assert {number for text in sources + pages for number in re.findall(r"\bSNN\d{3}\b", text)} == set(CODES)
    raised = [text for text in sources if "from snnc.diagnostics import" in text]
    for name in made:
        assert any(re.search(rf"\b{name}\b", text) for text in raised), name


def test_explain_lists_all_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["code"] for row in shown(capsys, "explain")["codes"]] == list(CODES)
    assert main(["explain"]) == 0
    assert all(number in capsys.readouterr().out for number in ["SNN101"])
    assert main(["explain", "SNN000"]) == 2
    assert "known: SNN101" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "doctor")
    assert found["healthy"]
    assert found["snnc"] == snnc.__version__
    assert set(found["needed"]) == set(doctor.NEEDED)
    assert found["cpu"]["name"]
    assert found["threads"]["available"] >= 1
    assert found["simulators"] == {"numba": "ready", "onnx": "ready", "reference": "ready"}
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert sys.executable in text
    assert "extra report" in text


def test_doctor_compiles_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "doctor", "--warm")["warmed"]["kernels"] > 30
    assert main(["doctor", "--warm"]) == 0
    assert "kernels ready" in capsys.readouterr().out


def test_doctor_knows_what_is_needed_and_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(needs: list[str]) -> tuple[str, ...]:
        return tuple(need if "==" in need else re.split(r"[^\w-]", need, maxsplit=1)[0] for need in needs)

    assert names(project["dependencies"]) == doctor.NEEDED
    named = {
        extra: names(needs) for extra, needs in project["optional-dependencies"].items() if extra != "dev"
    }
    assert named == doctor.EXTRAS


@pytest.mark.parametrize(
    ("version", "state"), [("2.13.0+cpu", "installed"), ("2.14.0", "not installed: pip")]
)
def test_doctor_takes_the_pinned_version_alone(
    version: str, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert main(["doctor"]) == 0
    assert re.search(rf"extra torch +{state}", capsys.readouterr().out)


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numba":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)


@pytest.mark.usefixtures("without_numba")
def test_doctor_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "MISSING" in lines["numba"]
    assert "MISSING" not in lines["numpy"]
    assert not shown(capsys, "doctor", code=1)["healthy"]


def test_doctor_removes_kernels_of_other_versions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    current = tmp_path / f"kernels-{'c' * 16}"
    cache = "snnc.backends.numba_cpu.machine.cache"
    monkeypatch.setattr(f"{cache}.cache_root", lambda: tmp_path)
    monkeypatch.setattr(f"{cache}.kernel_directory", lambda: current)
    old = tmp_path / f"kernels-{'0' * 16}"
    kept = [current, tmp_path / "kernels-mine", tmp_path / f"linked-{'0' * 16}"]
    for folder in (old, *kept):
        folder.mkdir()
        (folder / "a.nbi").write_bytes(bytes(2_000_000))
    (tmp_path / f"kernels-{'1' * 16}").symlink_to(tmp_path / "kernels-mine")
    assert main(["doctor", "--mend", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mended"] == {"removed": 1, "megabytes": 2}
    assert not old.exists()
    assert all((folder / "a.nbi").exists() for folder in kept)
