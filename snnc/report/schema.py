"""The JSON Schema of the report's figures, published as ``docs/report.schema.json``.

``python -m snnc.report.schema > docs/report.schema.json`` writes it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from snnc.metrics import Task
from snnc.metrics.catalogue import LABELS, SOURCE
from snnc.report.causes import Cause
from snnc.report.document import SCHEMA_VERSION
from snnc.report.terms import TERMS
from snnc.report.verdict import Size

REFERENCES = (LABELS, SOURCE)

NUMBER: dict[str, Any] = {"type": "number"}
TEXT: dict[str, Any] = {"type": "string"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
HOST_NODE: dict[str, Any] = {
    **dict.fromkeys(("name", "operator", "section", "reason"), TEXT),
    **dict.fromkeys(("macs", "latency_steps"), COUNT),
    "cause": {"type": "boolean"},
}
MAYBE: dict[str, Any] = {"type": ["number", "null"]}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def schema() -> dict[str, Any]:
    """Return the schema. Keys that it does not name may be added at any time."""
    interval = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
    share = _nullable(_object({"value": SHARE, "ci95": interval, "hits": COUNT, "n": COUNT}))
    terms: dict[str, Any] = {term: NUMBER for term in TERMS}  # noqa: C420 - keys are any text
    split = _object(
        {
            "total": {**NUMBER, "description": "E[e^2] / E[a^2]: the sum of the five terms"},
            **terms,
            "mean": _object({"total": NUMBER, **terms}),
            "rms": _object(terms),
            "sqnr_db": MAYBE,
            "cosine": MAYBE,
        }
    )
    finding = _object(
        {
            "cause": {"enum": [cause.value for cause in Cause]},
            "layer": TEXT,
            "onnx_node": TEXT,
            "network": {"type": "boolean"},
            "severity": NUMBER,
            "evidence": TEXT,
            "option": TEXT,
        }
    )
    population = {
        "threshold": _object({"min": NUMBER, "median": NUMBER, "max": NUMBER}),
        "above_threshold": SHARE,
        "headroom": NUMBER,
        "start": MAYBE,
        "spikes_per_neuron_per_step": NUMBER,
        "events_per_neuron_per_step": SHARE,
        "dead_channels": SHARE,
        "silenced_channels": SHARE,
        "saturated_channels": SHARE,
        "fires_where_ann_is_zero": SHARE,
        "unevenness_histogram": _object(dict.fromkeys(("-2", "-1", "0", "1", "2"), SHARE)),
        "residual_membrane": _object({"mean": MAYBE, "deviation": MAYBE, "outside": _nullable(SHARE)}),
        "activation_histogram": {"type": "array", "items": SHARE},
    }
    layer = _object(
        {
            "name": TEXT,
            "onnx_node": TEXT,
            "shape": {"type": "array", "items": COUNT},
            "local": split,
            "cumulative": split,
            **population,
        },
        tuple(population),
    )
    problem = _object({"code": TEXT, "severity": TEXT, "node": TEXT, "message": TEXT, "help": TEXT})
    texts = {"type": "array", "items": TEXT}
    target = _object(
        {
            "target": TEXT,
            "profiles": texts,
            "fits": {"type": "boolean"},
            "problems": {"type": "array", "items": problem},
            "differences": texts,
            "results": TEXT,
            "verified_by": TEXT,
        }
    )
    maybe_interval = _nullable({**interval, "items": MAYBE})
    point = _object(
        {"timesteps": COUNT, "top1": SHARE, "top1_ci95": interval, "r2": NUMBER, "r2_ci95": maybe_interval},
        ("top1", "top1_ci95", "r2", "r2_ci95"),
    )
    metric = _object(
        {"value": MAYBE, "ci95": maybe_interval, "n": COUNT, "against": {"enum": list(REFERENCES)}}
    )
    loss = _object({"value": NUMBER, "ci95": {**interval, "items": MAYBE}, "n": COUNT, "measured": TEXT})
    points = {"type": "array", "items": point}
    answered = {
        "accuracy": _object(
            {
                "snn": share,
                "ann": share,
                "agreement": share,
                "drop": MAYBE,
                "drop_ci95": _nullable(interval),
            }
        ),
        "task": {"enum": [*(task.value for task in Task), None]},
        "metrics": {"type": "object", "additionalProperties": metric},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Figures of snnc report",
        **_object(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "snnc_version": TEXT,
                "network": TEXT,
                "source": _object({"path": TEXT, "sha256": TEXT}),
                "timesteps": COUNT,
                "calibrated_for": COUNT,
                "settle_steps": COUNT,
                "latency_steps": COUNT,
                "payload": TEXT,
                "precision": {"enum": ["int8", "float32"]},
                "n": COUNT,
                **answered,
                "output": TEXT,
                "outputs": {
                    "type": "object",
                    "additionalProperties": _object({**answered, "loss": _nullable(loss)}),
                },
                "verdict": _object(
                    {
                        "text": TEXT,
                        "layer": TEXT,
                        "onnx_node": TEXT,
                        "cause": {"enum": [cause.value for cause in Cause]},
                        "option": TEXT,
                        "size": {"enum": [size.value for size in Size]},
                        "loss": _nullable(loss),
                        "findings": {"type": "array", "items": finding, "minItems": 1},
                    }
                ),
                "layers": {"type": "array", "items": layer, "minItems": 1},
                "energy": {"type": "object", "required": ["model", "snn", "baselines", "neurobench"]},
                "accuracy_against_timesteps": _nullable(
                    _object(
                        {
                            "measured": TEXT,
                            "output": TEXT,
                            "calibrated_for": COUNT,
                            "n": COUNT,
                            "ann_top1": MAYBE,
                            "ann_r2": MAYBE,
                            "this_artefact": points,
                            "converted_for_each": points,
                        },
                        ("ann_top1", "ann_r2", "output"),
                    )
                ),
                "disagreements": {
                    "type": "array",
                    "items": _object({"ann": COUNT, "snn": COUNT, "rows": COUNT}),
                },
                "passes": {"type": "array", "items": {"type": "object"}},
                "host": _nullable(
                    _object(
                        {
                            "spiking_share": SHARE,
                            "macs": COUNT,
                            "host_macs": COUNT,
                            "islands": COUNT,
                            "latency_steps": COUNT,
                            "nodes": {"type": "array", "items": _object(HOST_NODE), "minItems": 1},
                        }
                    )
                ),
                "targets": {"type": "array", "items": target, "minItems": 1},
                "reproduce": {"type": "object", "additionalProperties": TEXT},
            }
        ),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
