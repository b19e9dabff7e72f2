"""``snnc check --format sarif`` against the rules of SARIF 2.1.0 that concern what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import numpy as np
import pytest

from snnc.cli import main
from snnc.cli.sarif import sarif
from snnc.diagnostics import CODES, Diagnostic
from tests.onnx_models import model, node, saved

OFFICIAL = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_bytes())
"""The schema of OASIS as npm's @microsoft/jest-sarif 1.0.0-beta.0 (MIT licence) carries it."""


def closed(required: str, **properties: Any) -> dict[str, Any]:
    """Return a schema of an object that has no other properties, as all of SARIF's are."""
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": properties,
    }


TEXT = {"type": "string", "minLength": 1}
INDEX = {"type": "integer", "minimum": -1}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = closed("text", text=TEXT)
ARTIFACT = closed("uri", uri={"type": "string", "pattern": r"^[\w.~:/?#\[\]@!$&'()*+,;=%-]+$"}, index=INDEX)
LOCATION = closed(
    "physicalLocation",
    physicalLocation=closed("artifactLocation", artifactLocation=ARTIFACT),
    logicalLocations={
        "type": "array",
        "uniqueItems": True,
        "minItems": 1,
        "items": closed("name", name=TEXT, kind=TEXT),
    },
)
RULE = closed(
    "id",
    id=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    defaultConfiguration=closed("level", level=LEVEL),
)
RESULT = closed(
    "message",  # the rest may be left out in SARIF, not here
    ruleId=TEXT,
    ruleIndex=INDEX,
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
)
DRIVER = closed("name", name=TEXT, version=TEXT, rules={"type": "array", "uniqueItems": True, "items": RULE})
RUN = closed(
    "tool results",
    tool=closed("driver", driver=DRIVER),
    invocations={
        "type": "array",
        "items": closed("executionSuccessful", executionSuccessful={"type": "boolean"}),
    },
    artifacts={"type": "array", "items": closed("location", location=ARTIFACT), "uniqueItems": True},
    results={"type": "array", "items": RESULT},
)
LOG = closed(
    "version runs",
    **{"$schema": {"type": "string"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN, "minItems": 1},
)
"""What snnc writes, more narrowly than the official schema: what may not be missing or empty, and no more."""


def check_log(log: dict[str, Any]) -> dict[str, Any]:
    """Assert that a log is valid, what no schema says included, and return its run."""
    jsonschema.validate(log, OFFICIAL, jsonschema.Draft4Validator)
    jsonschema.validate(log, LOG, jsonschema.Draft7Validator)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert result["level"] == "note" or rules[result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            found = location["physicalLocation"]["artifactLocation"]
            assert run["artifacts"][found["index"]]["location"]["uri"] == found["uri"]
    return run


def test_every_code_has_a_valid_form() -> None:
    found = [
        Diagnostic(code, f"what {number} says", node, "mend it" if node else "")
        for number, code in CODES.items()
        for node in ("", "a node")
    ]
    run = check_log(sarif(found, Path("net.onnx")))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(CODES)
    assert [result["level"] for result in run["results"]] == [item.severity.value for item in found]
    assert run["results"][1]["message"]["text"].endswith(". Mend it")
    assert ["logicalLocations" in result["locations"][0] for result in run["results"][:2]] == [False, True]


@pytest.mark.parametrize("name", ["net.onnx", "my net.onnx", "100 % née?.onnx", "a#b.onnx"])
@pytest.mark.parametrize("absolute", [False, True])
def test_places_of_files_are_uris(
    tmp_path: Path,
    name: str,
    absolute: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, model([node("Hardmax", "x", "a"), node("Relu", "a")], ["N", 4]), name)
    assert main(["check", str(path if absolute else path.name), "--format", "sarif"]) == 3
    run = check_log(json.loads(capsys.readouterr().out))
    uri = run["artifacts"][0]["location"]["uri"]
    assert urlsplit(uri).scheme == ("file" if absolute else "")
    assert unquote(urlsplit(uri).path) == (str(path) if absolute else name)
    first = run["results"][0]
    assert first["ruleId"] == "SNN101"
    assert first["locations"][0]["logicalLocations"] == [{"name": "Hardmax_a", "kind": "object"}]


def test_nothing_found_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for opset, levels in ((13, []), (6, ["warning"])):
        layers = [node("MatMul", "x w", "a"), node("Relu", "a")]
        path = saved(tmp_path, model(layers, ["N", 4], {"w": np.eye(4, dtype=np.float32)}, opset=opset))
        assert main(["check", str(path), "--format", "sarif"]) == 0
        run = check_log(json.loads(capsys.readouterr().out))
        assert [result["level"] for result in run["results"]] == levels


def test_nodes_of_the_host_are_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [
        node("MatMul", "x w", "a"),
        node("Relu", "a", "b"),
        node("MatMul", "b w", "c"),
        node("Exp", "c"),
    ]
    path = saved(tmp_path, model(layers, ["N", 4], {"w": np.eye(4, dtype=np.float32)}))
    assert main(["check", str(path), "--format", "sarif"]) == 0
    (note,) = check_log(json.loads(capsys.readouterr().out))["results"]
    assert note["level"] == "note"
    assert "suffix: Exp" in note["message"]["text"]
    assert note["locations"][0]["logicalLocations"][0]["name"].startswith("Exp")


def test_the_official_schema_refuses_what_it_should() -> None:
    log = json.loads(
        json.dumps(sarif([Diagnostic(CODES["SNN101"], "says", "node", "mend")], Path("net.onnx")))
    )
    jsonschema.Draft4Validator.check_schema(OFFICIAL)
    jsonschema.validate(log, OFFICIAL, jsonschema.Draft4Validator)
    (result,) = log["runs"][0]["results"]
    for key, value in (("level", "bad"), ("ruleIndex", "0"), ("message", {}), ("unknown", 1)):
        forged = {**log, "runs": [{**log["runs"][0], "results": [{**result, key: value}]}]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(forged, OFFICIAL, jsonschema.Draft4Validator)
