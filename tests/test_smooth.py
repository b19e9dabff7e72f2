"""The benchmark of networks with smooth activations, and of another tool beside it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from benchmarks.accuracy import smooth
from benchmarks.peers import transformer
from snnc.arguments import read_source
from snnc.ir import ann
from snnc.ir.graph import FloatArray
from snnc.source.ann_session import AnnSession
from snnc.training import architectures
from tests import quadrants

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / "build" / "peers" / "spikingjelly"


def images(count: int) -> FloatArray:
    return np.random.default_rng(3).integers(0, 256, (count, 3, 32, 32)).astype(np.float32)


def graph_of(name: str) -> ann.AnnGraph:
    made = architectures.initial(name, images(50).astype(np.uint8), 10, seed=1)
    return read_source(made)[0].graph


def soft(x: FloatArray) -> FloatArray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_what_a_peer_is_given_is_the_first_block(tmp_path: Path) -> None:
    """Queries are those of a peer that divides by the root of their length itself."""
    graph, x = graph_of("vit"), images(6)
    path = tmp_path / "job.npz"
    transformer.write_job(path, graph, x, x[:4], np.arange(4))
    with np.load(path) as job:
        stored = dict(job)
    heads = int(stored["heads"])
    tokens = stored["x"]
    assert tokens.shape == (4, 64, 192)
    norms = list(graph.of_type(ann.Normalisation))
    deviation = np.sqrt(tokens.var(axis=2, keepdims=True) + stored["epsilon"])
    normed = (tokens - tokens.mean(axis=2, keepdims=True)) / deviation
    q, k, v = (
        (normed @ stored[f"0.{m}.weight"].T + stored[f"0.{m}.bias"])
        .reshape(4, 64, heads, -1)
        .transpose(0, 2, 1, 3)
        for m in range(3)
    )
    found = soft(q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])) @ v
    found = found.transpose(0, 2, 1, 3).reshape(4, 64, -1)
    behind = tokens + found @ stored["0.3.weight"].T + stored["0.3.bias"]
    name = norms[1].inputs[0]
    right = AnnSession(graph, [name]).run(x[:4])[name].reshape(4, 192, 64).transpose(0, 2, 1)
    np.testing.assert_allclose(behind, right, rtol=0, atol=1e-4 * np.abs(right).max())
    assert {key.split(".")[0] for key in stored if key.endswith(".5.bias")} == set("012345")


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="no transformer"):
        transformer.write_job(tmp_path / "job.npz", graph_of("tiny"), images(2), images(2), np.arange(2))


@pytest.mark.skipif(
    not (ENVIRONMENT / ".installed").exists(),
    reason="SpikingJelly is not installed; see benchmarks/peers/README.md",
)
def test_a_peer_answers_and_is_timed(tmp_path: Path) -> None:
    graph, x = graph_of("vit"), images(60)
    path = tmp_path / "job.npz"
    y = AnnSession(graph, graph.outputs).run(x)[graph.output].argmax(axis=1)
    transformer.write_job(path, graph, x[:40], x[40:], y[40:])
    with transformer.judged(ENVIRONMENT / "bin" / "python", path, (2,), 1) as (found, once):
        assert [(row["timesteps"], row["n"]) for row in found] == [(2, 20)]
        assert found[0]["hits"] >= 15
        assert found[0]["payload"].startswith("levels:")
        assert once(2) > 0


def test_settings_are_beside_their_source(tmp_path: Path) -> None:
    x, y = quadrants.images(200, 1)
    path = tmp_path / "quadrants.onnx"
    path.write_bytes(quadrants.network().SerializeToString())
    given = x.astype(np.float32)[:, np.newaxis]
    rows = smooth.measured(path, given[:100], given[100:160], y[100:160], 1, None)
    assert [(row["tool"], row["timesteps"]) for row in rows] == [
        ("snnc, `one-step`", 1),
        ("snnc, `precise`", 1),
        ("snnc, `low-latency`", 4),
        ("snnc, `low-latency`", 8),
    ]
    assert all(row["ms"] > 0 and row["n"] == 60 for row in rows)
    (tmp_path / smooth.CACHE.name).write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    lines = smooth.section(tmp_path).splitlines()
    source = next(line for line in lines if "| source |" in line)
    assert f"{100 * rows[0]['ann']['top1']:.2f}" in source
    change = 100 * (rows[1]["top1"] - rows[1]["ann"]["top1"])
    assert f"{change:+.2f}" in next(line for line in lines if "`precise`" in line)
    assert smooth.section(tmp_path / "nowhere") == ""
