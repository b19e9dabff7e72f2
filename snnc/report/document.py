"""The report as data, and its JSON form. The published schema is ``docs/report.schema.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Any

import numpy as np

from snnc import __version__, notebook
from snnc.analysis.costs import payload
from snnc.analysis.evaluation import Share
from snnc.analysis.latency import latencies
from snnc.artefact import Artefact
from snnc.errors import UsageError
from snnc.metrics import Loss
from snnc.report.curve import Curve
from snnc.report.energy import Energy
from snnc.report.layers import LayerReport
from snnc.report.measurement import Answered, Measurement
from snnc.report.pictures import Pictures
from snnc.report.rules import Finding
from snnc.report.statistics import Split
from snnc.report.targets import Fit
from snnc.report.terms import TERMS
from snnc.report.verdict import Verdict

SCHEMA_VERSION = 1
TOP_FLIPS = 10


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one report says.

    Attributes:
        artefact: the network.
        measurement: what was measured.
        verdict: what follows from it.
        energy: what it costs.
        curve: accuracy against T; ``None`` where it was not asked for.
        targets: what can take the network, and what cannot.
        reproduce: how to make the report again: command, hashes, versions.
        classes: names of the classes; empty if unknown.
        pictures: of its spikes; ``None`` where they were not asked for. The JSON form leaves them out.
    """

    artefact: Artefact
    measurement: Measurement
    verdict: Verdict
    energy: Energy
    curve: Curve | None
    targets: tuple[Fit, ...]
    reproduce: Mapping[str, str]
    classes: tuple[str, ...] = ()
    pictures: Pictures | None = None

    def class_name(self, index: int) -> str:
        """Return how a class is called."""
        return self.classes[index] if index < len(self.classes) else str(index)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found, graph, metadata = self.measurement, self.artefact.graph, self.artefact.metadata
        return {
            "schema_version": SCHEMA_VERSION,
            "snnc_version": __version__,
            "network": graph.name,
            "source": {"path": metadata.source_path, "sha256": metadata.source_sha256},
            "timesteps": found.timesteps,
            "calibrated_for": graph.timesteps,
            "settle_steps": graph.settle_steps,
            "latency_steps": self.energy.latency_steps,
            "payload": payload(graph, found.timesteps),
            "precision": "int8" if graph.integer else "float32",
            "n": found.rows,
            "task": None if found.outputs.task is None else found.outputs.task.value,
            "accuracy": accuracy_dict(found),
            "metrics": {each.metric: each.as_dict() for each in found.snn.measured},
            "output": found.name,
            "outputs": {each.name: answered_dict(each) for each in found.each},
            "verdict": {
                "text": self.verdict.text,
                "layer": self.verdict.first.layer,
                "onnx_node": self.verdict.first.onnx_node,
                "cause": self.verdict.first.cause.value,
                "option": self.verdict.first.option,
                "size": self.verdict.size.value,
                "loss": _loss(self.verdict.loss),
                "findings": [_finding(item) for item in self.verdict.findings],
            },
            "layers": [layer_dict(layer) for layer in found.layers],
            "input": {"beyond_range": found.input_use.limited, "largest": found.input_use.largest},
            "energy": self.energy.as_dict(),
            "accuracy_against_timesteps": None if self.curve is None else self.curve.as_dict(),
            "disagreements": [
                {"ann": ann, "snn": snn, "rows": rows} for (ann, snn), rows in flips(found)[:TOP_FLIPS]
            ],
            "passes": [dict(record) for record in metadata.records],
            "host": None if self.artefact.host is None else self.artefact.host.told(self._latencies),
            "targets": [fit.as_dict() for fit in self.targets],
            "reproduce": dict(self.reproduce),
        }

    @property
    def _latencies(self) -> tuple[int, ...]:
        """Steps of the segments between which ordinary ONNX stands."""
        artefact = self.artefact
        return latencies(artefact.graph, self.measurement.timesteps, artefact.input_segments)

    def _repr_html_(self) -> str:
        """Return verdict, layers and their errors, for notebooks."""
        found = self.measurement
        rows = [
            (
                layer.name,
                *(f"{100 * layer.local.of(term):z.2f}" for term in TERMS),
                f"{100 * layer.local.total:.2f}",
                f"{100 * layer.cumulative.total:.2f}",
            )
            for layer in found.layers
        ]
        heads = ("squared error, %", *TERMS, "total", "running")
        running = [
            (each.name, each.cumulative.total, f"{each.cumulative.total:.2%}") for each in found.layers
        ]
        first = self.verdict.first
        return (
            f"<p>{escape(self.verdict.text)} Cause: {escape(first.cause.value)}. Try: "
            f"{escape(first.option)}</p>"
            + notebook.sparkline("Error of every layer in the running network", running)
            + notebook.table("snnc report", rows, heads)
        )

    def json(self) -> str:
        """Return the JSON text; the same report gives the same bytes."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False, sort_keys=False) + "\n"


def _loss(loss: Loss | None) -> dict[str, Any] | None:
    if loss is None:
        return None
    bounds = [bound if isfinite(bound) else None for bound in (loss.low, loss.high)]
    return {"value": loss.value, "ci95": bounds, "n": loss.n, "measured": loss.measured}


def several(n: int, noun: str) -> str:
    """Return a number of things in words: ``1 row``, ``2 rows``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def answered_dict(found: Answered) -> dict[str, Any]:
    """Return what is said of one output."""
    try:
        loss = _loss(found.loss)
    except UsageError:  # the source always answers the same
        loss = None
    return {
        "task": None if found.outputs.task is None else found.outputs.task.value,
        "accuracy": accuracy_dict(found),
        "metrics": {each.metric: each.as_dict() for each in found.snn.measured},
        "loss": loss,
    }


def accuracy_dict(found: Answered) -> dict[str, Any]:
    """Return the accuracies of both networks, and how they agree."""
    paired = found.ann.paired
    return {
        "snn": _share(found.snn.top1),
        "ann": _share(found.ann.scores.top1),
        "agreement": _share(found.ann.agreement),
        "drop": None if paired is None else paired.drop,
        "drop_ci95": None if paired is None else list(paired.interval),
        "paired": None
        if paired is None
        else {
            "both": paired.both,
            "only_ann": paired.only_ann,
            "only_snn": paired.only_snn,
            "neither": paired.neither,
        },
    }


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"value": share.value, "ci95": list(share.interval), "hits": share.hits, "n": share.n}


def _finding(item: Finding) -> dict[str, Any]:
    return {
        "cause": item.cause.value,
        "layer": item.layer,
        "onnx_node": item.onnx_node,
        "network": item.network,
        "severity": item.severity,
        "evidence": item.evidence,
        "option": item.option,
    }


def split_dict(split: Split) -> dict[str, Any]:
    """Return the errors of a layer: contributions to its relative squared error, means and sizes."""
    return {
        "total": split.total,
        **dict(zip(TERMS, split.contributions, strict=True)),
        "mean": {"total": sum(split.means), **dict(zip(TERMS, split.means, strict=True))},
        "rms": dict(zip(TERMS, split.rms, strict=True)),
        "sqnr_db": split.sqnr,
        "cosine": split.cosine,
    }


def layer_dict(layer: LayerReport) -> dict[str, Any]:
    """Return what is said of a layer."""
    told: dict[str, Any] = {
        "name": layer.name,
        "onnx_node": layer.onnx_node,
        "shape": list(layer.shape),
        "local": split_dict(layer.local),
        "cumulative": split_dict(layer.cumulative),
    }
    if layer.thresholds is None or layer.firing is None:
        return told
    limits, firing = layer.thresholds, layer.firing
    return {
        **told,
        "threshold": {"min": limits.least, "median": limits.median, "max": limits.largest},
        "above_threshold": limits.above,
        "headroom": limits.headroom,
        "start": limits.start,
        "spikes_per_neuron_per_step": firing.rate,
        "events_per_neuron_per_step": firing.density,
        "dead_channels": firing.dead,
        "silenced_channels": firing.silenced,
        "saturated_channels": firing.saturated,
        "fires_where_ann_is_zero": firing.false_fires,
        "unevenness_histogram": dict(zip(("-2", "-1", "0", "1", "2"), firing.lead, strict=True)),
        "residual_membrane": {
            "mean": firing.residual_mean,
            "deviation": firing.residual_deviation,
            "outside": firing.residual_outside,
        },
        "activation_histogram": list(firing.activations),
    }


def flips(found: Measurement) -> list[tuple[tuple[int, int], int]]:
    """Return which class of the source becomes which of the spiking network, the most frequent first."""
    if not found.tells_classes:
        return []
    ann, snn = found.ann.scores.classes, found.snn.classes
    differ = np.flatnonzero(ann != snn)
    pairs = Counter((int(ann[i]), int(snn[i])) for i in differ)
    return sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
