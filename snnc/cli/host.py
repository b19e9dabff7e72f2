"""What the verbs say of host sections: who runs what, why, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.source.host import Host


def told(host: Host | None) -> dict[str, Any] | None:
    """Return the JSON form: share of the multiply-accumulates, and every node with its reason."""
    return None if host is None else host.told()


def told_of(artefact: Artefact, timesteps: int) -> dict[str, Any] | None:
    """Return the same of an artefact, with the steps that islands add to a run of T."""
    from snnc.analysis.latency import latencies

    if artefact.host is None:
        return None
    return artefact.host.told(latencies(artefact.graph, timesteps, artefact.input_segments))


def lines(host: Host) -> list[str]:
    """Return a line for the whole and one for every node."""
    found = [f"{host.line}; {host.latency}"]
    for node in host.nodes:
        macs = f", {node.macs:,} multiply-accumulates" if node.macs else ""
        found.append(f"  {node.text}{macs}")
    return found
