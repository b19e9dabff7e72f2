"""Gradients through the times of spikes: a case done by hand, how near they are to those of bptt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.cli import main
from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

torch = pytest.importorskip("torch")

from snnc.training.leaky import leaky_graph, train_leaky  # noqa: E402
from snnc.training.leaky_network import LeakyNetwork  # noqa: E402
from tests.test_leaky_training import frames  # noqa: E402

ONE = np.ones(1, np.float32)
HALF = np.full(1, 0.5, np.float32)


def single(threshold: float, timesteps: int, **fields: Any) -> snn.SnnGraph:
    """Return one neuron behind one weight of 1, and a leaky read-out; all decays are a half."""
    graph = snn.SnnGraph(
        name="single",
        timesteps=timesteps,
        outputs=("y",),
        nodes=(
            snn.Encode(name="x", shape=(1,), scale=1.0, presented=snn.Presented.SEQUENCE),
            snn.Linear(name="w", inputs=("x",), shape=(1,), weight=ONE[:, None]),
            snn.IntegrateFire(
                name="n",
                inputs=("w",),
                shape=(1,),
                threshold=threshold * ONE,
                bias=0 * ONE,
                v_init=0 * ONE,
                spike_scale=ONE,
                neuron=Neuron(count_memory=False),
                decay=HALF,
                synapse_decay=HALF,
                **fields,
            ),
            snn.Linear(name="u", inputs=("n",), shape=(1,), weight=ONE[:, None]),
            snn.Readout(name="y", inputs=("u",), shape=(1,), bias=0 * ONE, decay=HALF),
        ),
    )
    graph.verify()
    return graph


@pytest.mark.parametrize(
    ("threshold", "given", "fields", "spikes", "wanted"),
    [
        # Currents 3, 2.5, 5.25, 2.625; potentials 3, 4, 5.25, 3.25: spikes where they rise by 1/4 and 5.25/4,
        # so r = 4 and 0.762. By m4 .. m1: 0, r/8, 1/4 + r/16 (1 + 4/2), and half of that beside h(3/4)/32.
        (4, [3, 1, 4, 0], {}, [0, 1, 1, 0], 2.12941),
        # A reset to zero leaves nothing but its time: 4/2 in the place of 1 + 4/2.
        (4, [3, 1, 4, 0], {"reset_to": 0 * ONE}, [0, 1, 1, 0], 1.93893),
        # Potentials 31 and 32: 1 over the rise of 1/32 is cut at 8. By m2 8/32, by m1 half of it and h/64.
        (32, [31, 1], {}, [0, 1], 8.47976),
        # Potentials 16, 12 behind the spike, and 10, which fires while it falls: that spike does not move.
        (4, [16, -4], {}, [1, 1], 0.5 / 4 * (1 / 4) * 16),
    ],
)
def test_a_weight_by_hand(
    threshold: float, given: list[int], fields: dict[str, Any], spikes: list[int], wanted: float
) -> None:
    module = LeakyNetwork(single(threshold, len(given), **fields), "tssl")
    q = np.array(given, np.int32).reshape(1, -1, 1)
    trace = ReferenceSimulator().run(module.quantised, q, len(given), RecordOptions(trains=("n",)))
    assert trace.trains["n"].flatten().tolist() == spikes
    module(torch.from_numpy(q)).outputs[-1].sum().backward()
    gradient: Any = module.n1_weight.grad
    assert float(gradient) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_it_points_where_bptt_does(seed: int) -> None:
    """Behind the last spikes both are the same; in front of them they have a direction in common."""
    from snnc.training.leaky import fit_scales

    rng = np.random.default_rng(seed)
    q = rng.integers(1, 4, (32, 10, 12)) * (rng.random((32, 10, 12)) < 0.4)
    module = LeakyNetwork(leaky_graph((12,), 10, 3, seed, filtered=True))
    fit_scales(module, q.astype(np.int32))
    labels = torch.from_numpy(rng.integers(0, 3, 32))
    found: dict[str, dict[str, Any]] = {}
    for method in ("bptt", "rate", "tssl"):
        module.method = method
        module.zero_grad()
        answers = module(torch.from_numpy(q.astype(np.int32))).outputs[5:]
        wanted = labels.repeat(len(answers))
        torch.nn.functional.cross_entropy(answers.flatten(0, 1), wanted).backward()
        parameters: Any = module.named_parameters()
        found[method] = {name: each.grad.flatten() for name, each in parameters if each.requires_grad}
        assert "n2_bias" not in found[method]  # behind the filter, where other software has none
    for name, reference in found["bptt"].items():
        behind = name.startswith(("n3", "n4"))  # the read-out and its weights
        for method, least in (("rate", 0.9), ("tssl", 0.9999 if behind else 0.7)):
            cosine = torch.nn.functional.cosine_similarity(found[method][name], reference, dim=0)
            assert float(cosine) > least, (method, name)
    first = {method: float(gradients["n1_weight"].norm()) for method, gradients in found.items()}
    assert first["tssl"] > 2 * first["bptt"]


@pytest.mark.parametrize("method", ["bptt", "rate", "tssl"])
def test_what_is_trained(method: str) -> None:
    x, y = frames()
    made = train_leaky("cuba-lif", x, y, epochs=8, batch=20, method=method, threads=1)
    assert made.equal_rows == 9
    graph = made.artefact.graph
    assert all(node.synapse_decay is not None for node in graph.of_type(snn.IntegrateFire))
    test, labels = frames(60, seed=1)
    q = made.artefact.encode(test)
    answers = ReferenceSimulator().run(graph, q, graph.timesteps).logits.argmax(axis=1)
    assert (answers == labels).mean() > 0.8


def test_it_needs_filters_and_single_spikes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="'lif2' reads 'lif1' without a synaptic filter"):
        LeakyNetwork(leaky_graph((2, 34, 34), 3, 10), "tssl")
    several = single(4, 3, reset_by=ONE).map(
        snn.IntegrateFire, lambda node: node.with_(neuron=Neuron(spikes_per_step=2, count_memory=False))
    )
    with pytest.raises(UsageError, match="'n' may send several spikes in a step"):
        LeakyNetwork(several, "tssl")
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=np.zeros((20, 3, 2, 30, 30), np.uint8), y=np.arange(20) % 2)
    out = tmp_path / "a.snn.onnx"
    given = ["train", "--arch", "lif", "--method", "tssl", "--data", str(rows), "-o", str(out)]
    assert main(given) == 2
    assert "cuba-lif" in capsys.readouterr().err
    assert not out.exists()
