"""Findings in the Static Analysis Results Interchange Format 2.1.0, which editors and CI services read.

Source: OASIS, *Static Analysis Results Interchange Format (SARIF) Version 2.1.0*, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from snnc import __version__

if TYPE_CHECKING:
    from snnc.diagnostics import Code, Diagnostic
    from snnc.source.host import Host
    from snnc.source.host_sections import HostNode

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(found: Sequence[Diagnostic], path: Path, host: Host | None = None) -> dict[str, Any]:
    """Return findings about one file as a log of one run.

    Args:
        found: each becomes a result; its code is the rule, its node a logical location.
        path: the file, as the user named it.
        host: what runs as ordinary ONNX; each of its nodes becomes a note, which belongs to no rule.
    """
    codes = {item.code.number: item.code for item in found}
    index = {number: place for place, number in enumerate(codes)}
    driver = {"name": "snnc", "version": __version__, "rules": [_rule(code) for code in codes.values()]}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [{"executionSuccessful": True}],
                "artifacts": [{"location": {"uri": _uri(path)}}],
                "results": [
                    *(_result(item, index[item.code.number], _uri(path)) for item in found),
                    *(_note(node, _uri(path)) for node in (() if host is None else host.nodes)),
                ],
            }
        ],
    }


def _rule(code: Code) -> dict[str, Any]:
    return {
        "id": code.number,
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": code.explanation},
        "defaultConfiguration": {"level": code.severity.value},
    }


def _result(item: Diagnostic, rule: int, uri: str) -> dict[str, Any]:
    text = f"{item.message}. {item.help[:1].upper()}{item.help[1:]}" if item.help else item.message
    return {
        "ruleId": item.code.number,
        "ruleIndex": rule,
        "level": item.severity.value,
        "message": {"text": text},
        "locations": [_location(item.node, uri)],
    }


def _note(node: HostNode, uri: str) -> dict[str, Any]:
    text = f"runs as ordinary ONNX, {node.text}"
    return {"level": "note", "message": {"text": text}, "locations": [_location(node.name, uri)]}


def _location(node: str, uri: str) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}}}
    if node:
        location["logicalLocations"] = [{"name": node, "kind": "object"}]
    return location


def _uri(path: Path) -> str:
    """Return a URI, or a reference that is relative as the path is."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
