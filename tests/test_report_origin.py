"""The source network as it was lowered, found again from its file and the artefact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnc.artefact import Artefact, Metadata
from snnc.compiler import Options, convert
from snnc.errors import InputError
from snnc.ir.ann import Relu
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.simulation.reference import ReferenceSimulator
from tests.onnx_models import model, node, normal, saved

ROWS = np.random.default_rng(3).standard_normal((70, 2, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    """A linear bottleneck: two convolutions in a row, so that a signed value is raised by its range."""
    nodes = [
        node("Conv", "x a", "c1"),
        node("Conv", "c1 b", "c2"),
        node("Relu", "c2", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w", "y", transB=1),
    ]
    constants = {"a": normal(4, 2, 3, 3) / 4, "b": normal(5, 4, 1, 1) / 2, "w": normal(3, 5)}
    path = saved(tmp_path_factory.mktemp("model"), model(nodes, ["batch", 2, 6, 6], constants))
    pipeline = (
        "fold-batchnorm,rectify-linear,clip-activations,lower,dual-threshold{spikes-per-step=2},"
        "init-membrane,quantise-weights"
    )
    return path, convert(path, ROWS[:60], Options(timesteps=6, pipeline=pipeline, threads=1)).artefact


def test_a_raised_value_is_found_again(made: tuple[Path, Artefact]) -> None:
    path, artefact = made
    source = prepared_source(artefact, path, ReferenceSimulator())
    raised = [item for item in source.of_type(Relu) if item.shift is not None]
    assert len(raised) == 1
    assert raised[0].shift is not None
    assert raised[0].shift.max() > 0.1
    assert all(item.threshold is None for item in source.of_type(Relu))
    found = measure(artefact, source, ROWS[60:], None, simulator=ReferenceSimulator(), threads=1)
    for layer in found.layers:
        # Without the right shift the layer behind would seem to have a wrong bias.
        assert abs(layer.local.of("parameters")) < 5e-3
        assert layer.cumulative.total < 0.3


def test_an_artefact_that_does_not_remember(made: tuple[Path, Artefact]) -> None:
    path, artefact = made
    bare = replace(artefact, metadata=Metadata())
    with pytest.raises(InputError, match=r"does not record the passes.*convert it again"):
        prepared_source(bare, path, ReferenceSimulator())
    records = tuple(
        {k: v for k, v in record.items() if k != "shifts"} for record in artefact.metadata.records
    )
    forgotten = replace(artefact, metadata=replace(artefact.metadata, records=records))
    with pytest.raises(InputError, match=r"does not store the shift of .*: convert it again"):
        prepared_source(forgotten, path, ReferenceSimulator())
