"""Learning in C: the same sums, weights and answers as in Python, within the memory that is stated."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.adaptation import Options, adapt
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Head
from snnc.backends.c99 import C99
from snnc.backends.c99.learning import LEARN_PROGRAM, LEARN_SOURCE, learner
from snnc.backends.c99.source import SOURCE
from snnc.backends.deployment import deploy, verify
from snnc.errors import ArtefactError, GateError
from snnc.ir.cut import find_cut
from snnc.simulation.latents import counts_at
from snnc.simulation.protocol import RecordOptions
from tests import quadrants
from tests.c99_bundles import SANE, STRICT
from tests.onnx_models import node
from tests.spiking_graphs import random_graph, random_inputs
from tests.test_adapt import SIMULATOR, pairs

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def learn_in_c(bundle: Path, *flags: str) -> None:
    """Compile the self-test of learning strictly, and run it."""
    for more in ((), ("-DSNNC_LEARN_GRAM",)):
        command = [
            "gcc",
            *STRICT,
            "-O1",
            *SANE,
            *more,
            *flags,
            SOURCE,
            LEARN_SOURCE,
            LEARN_PROGRAM,
            "-o",
            "learn",
        ]
        made = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=120)
        assert made.returncode == 0, made.stderr
        result = subprocess.run([bundle / "learn"], capture_output=True, text=True, check=False, timeout=60)
        assert (result.returncode, result.stdout.splitlines()[-1:]) == (0, ["PASSED"]), result.stdout


@needs_gcc
@pytest.mark.parametrize("seed", [1, 2, 5, 7])
def test_random_networks_learn_the_same(seed: int, tmp_path: Path) -> None:
    graph = random_graph(seed, blocks=1, settle_steps=seed % 2, flat=seed == 7)
    artefact = Artefact(graph)
    found = learner(artefact)
    if found is None:
        pytest.skip("more than sums lies between population and classifier")
    learn_in_c(deploy(artefact, C99(), tmp_path / "bundle").directory)


@needs_gcc
def test_networks_of_two_inputs_learn_the_same(tmp_path: Path) -> None:
    """The self-test of learning gives the network every input, as the one of inference does."""
    random = np.random.default_rng(0)
    constants = {
        "v": random.standard_normal((12, 8)).astype(np.float32),
        "w": random.standard_normal((8, 3)).astype(np.float32),
    }
    nodes = [
        node("Concat", "a b", "c", axis=1),
        node("MatMul", "c v", "s"),
        node("Relu", "s", "r"),
        node("MatMul", "r w", "y"),
    ]
    sizes = {"a": 8, "b": 4}
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n]) for name, n in sizes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    rows = {name: random.standard_normal((40, n)).astype(np.float32) for name, n in sizes.items()}
    network = snnc.convert(
        model.SerializeToString(), rows, timesteps=2, preset="fast", task="classes", threads=1
    )
    assert learner(network) is not None
    bundle = deploy(network, C99(), tmp_path / "bundle", rows=rows).directory
    assert "snnc_infer(&state, q0, q1, " in (bundle / "README.md").read_text(encoding="utf-8")
    learn_in_c(bundle)
    assert verify(bundle).verdict is not None


def test_the_table_leads_to_the_counts_at_the_cut() -> None:
    checked = 0
    for seed in range(12):
        graph = random_graph(seed, blocks=1)
        found = learner(Artefact(graph))
        if found is None:
            continue
        checked += 1
        q = random_inputs(graph, 2, seed)
        counts = counts_at(graph, find_cut(graph), q.__getitem__, 2, SIMULATOR)
        trace = SIMULATOR.run(graph, q, graph.timesteps, RecordOptions(states=True))
        last = np.moveaxis(trace.counts[found.population], 1, -1).reshape(2, -1)
        padded = np.concatenate([last, np.zeros((2, 1), last.dtype)], axis=1)  # -1 reads the zero
        np.testing.assert_array_equal(padded[:, found.places].sum(axis=2), counts)
    assert checked >= 4


def test_a_network_with_too_many_counts_is_deployed_without_learning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As VGG networks have them: more than a Gram matrix may be made of."""
    artefact = Artefact(random_graph(7, blocks=1, flat=True))
    found = learner(artefact)
    assert found is not None
    monkeypatch.setattr("snnc.numerics.count_sums.MOST_FEATURES", found.features - 1)
    assert LEARN_SOURCE not in deploy(artefact, C99(), tmp_path / "bundle").files


@needs_gcc
@pytest.mark.parametrize("head", [Head.PROTOTYPE, Head.LINEAR])
def test_what_was_learned_before_is_there(head: Head, tmp_path: Path) -> None:
    model = quadrants.network().SerializeToString()
    x, y = quadrants.images(60, 0)
    preprocessing = dict(quadrants.PREPROCESSING)
    network = snnc.convert(model, x, timesteps=4, preset="fast", preprocessing=preprocessing, threads=1)
    new_x, new_y = pairs(20, 1)
    rows, labels = np.concatenate([x, new_x]), np.concatenate([y, new_y])
    learned = adapt(network, rows, labels, Options(head=head, improve=True), SIMULATOR).artefact
    bundle = deploy(learned, C99(), tmp_path / "bundle", rows=x).directory
    learn_in_c(bundle)
    text = (bundle / LEARN_SOURCE).read_text(encoding="ascii")
    assert ("known_gram" in text) == (head is Head.LINEAR)
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"`sizeof\(snnc_learner\)` is ([\d,]+) bytes", readme)
    found = learner(learned)
    assert found is not None
    assert stated is not None
    assert int(stated[1].replace(",", "")) == found.memory()[0]
    assert verify(bundle).verdict is not None
    # Fewer classes than were learned, whose products would count without their sums, are refused.
    command = ["gcc", "-fsyntax-only", "-DSNNC_LEARN_CLASSES=2", LEARN_SOURCE]
    made = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode != 0
    assert "learned already" in made.stderr
    # Golden vectors that the device does not reproduce are noticed.
    broken = (bundle / LEARN_SOURCE).read_text(encoding="ascii").replace("2 * value + norm", "2 * value")
    (bundle / LEARN_SOURCE).write_text(broken, encoding="ascii")
    with pytest.raises((GateError, ArtefactError)):
        verify(bundle)


@needs_gcc
@pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None,
    reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
)
def test_a_cortex_m4_learns_the_same(tmp_path: Path) -> None:
    consumers = Path(__file__).parent.parent / "benchmarks" / "consumers"
    bundle = deploy(Artefact(random_graph(7, blocks=1, flat=True)), C99(), tmp_path / "bundle").directory
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-O2", *STRICT, "-DSNNC_LEARN_GRAM"]
    command += ["--specs=rdimon.specs", "-T", str(consumers / "cortex_m4.ld")]
    command += [SOURCE, LEARN_SOURCE, LEARN_PROGRAM, str(consumers / "cortex_m4.c"), "-o", "learn"]
    made = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 0, made.stderr
    machine = ["qemu-system-arm", "-M", "mps2-an386", "-nographic"]
    machine += ["-semihosting-config", "enable=on,target=native", "-kernel", "learn"]
    result = subprocess.run(machine, cwd=bundle, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "PASSED" in result.stdout
