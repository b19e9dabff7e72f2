"""The streams of a design, driven from Python by cocotb in Icarus; `cocotb_streams.py` asks."""

from __future__ import annotations

import shutil
from contextlib import suppress
from math import prod
from pathlib import Path
from xml.etree import ElementTree

import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.deployment import deploy
from snnc.backends.fpga import files
from tests.spiking_graphs import random_graph

runner = pytest.importorskip(
    "cocotb_tools.runner", reason="cocotb is not installed: pip install cocotb", exc_type=ImportError
)
pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cocotb") / "b"
    return deploy(Artefact(random_graph(5, flat=True, blocks=1)), load_backend("fpga"), folder).directory


def results(bundle: Path, monkeypatch: pytest.MonkeyPatch, only: str | None = None) -> dict[str, bool]:
    """Run the tests of the bench, or one of them; return whether each passed."""
    graph = random_graph(5, flat=True, blocks=1)
    environment = {
        "SNNC_INPUTS": str(sum(prod(node.shape) for node in graph.encoders)),
        "SNNC_OUTPUTS": str(sum(prod(graph[name].shape) for name in graph.outputs)),
    }
    monkeypatch.syspath_prepend(str(TESTS))
    simulator = runner.get_runner("icarus")
    folder = bundle.parent
    simulator.build(
        sources=[bundle / name for name in files.MODULES],
        includes=[bundle],
        hdl_toplevel="snnc_network",
        build_dir=folder / "build",
        build_args=["-g2012"],
        timescale=("1ns", "1ps"),
        log_file=folder / "build.log",
    )
    with suppress(SystemExit):  # so it says that a test failed
        simulator.test(
            test_module="cocotb_streams",
            hdl_toplevel="snnc_network",
            build_dir=folder / "build",
            test_dir=bundle,
            testcase=only,
            extra_env=environment,
            log_file=folder / "run.log",
            results_xml=str(folder / "results.xml"),
        )
    cases = ElementTree.parse(folder / "results.xml").iter("testcase")
    return {case.attrib["name"]: case.find("failure") is None for case in cases}


def test_the_streams(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(bundle, monkeypatch)
    assert len(found) == 14
    assert [name for name, passed in found.items() if not passed] == []


def test_a_core_that_loses_a_score_is_found(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "b"
    shutil.copytree(bundle, copy)
    text = (copy / "snnc_send.sv").read_text(encoding="ascii")
    right, wrong = (
        "SEND: if (m_tready) begin",
        "SEND: begin",
    )  # gone after a cycle, whether it was taken or not
    assert right in text
    (copy / "snnc_send.sv").write_text(text.replace(right, wrong), encoding="ascii")
    assert results(copy, monkeypatch, "scores_wait_for_a_reader") == {"scores_wait_for_a_reader": False}
