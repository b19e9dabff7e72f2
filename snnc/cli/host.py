"""What the verbs say of host sections: who runs what, why, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnc.source.host import Host


def told(host: Host | None) -> dict[str, Any] | None:
    """Return the JSON form: share of the multiply-accumulates, and every node with its reason."""
    if host is None:
        return None
    return {
        "spiking_share": host.share,
        "macs": host.macs,
        "host_macs": host.host_macs,
        "latency_steps": 0,
        "nodes": [
            {
                "name": node.name,
                "operator": node.operator,
                "section": node.section,
                "reason": node.reason,
                "macs": node.macs,
                "latency_steps": 0,
                "cause": node.is_cause,
            }
            for node in host.nodes
        ],
    }


def line(host: Host) -> str:
    """Return one line: what the host keeps."""
    count = len(host.nodes)
    sections = [s for s in ("prefix", "suffix") if any(node.section == s for node in host.nodes)]
    causes = list(dict.fromkeys(node.operator for node in host.nodes if node.is_cause))
    named = ", ".join(causes[:4]) + (f" and {len(causes) - 4} more" if len(causes) > 4 else "")
    nodes = "1 node runs" if count == 1 else f"{count} nodes run"
    return (
        f"{nodes} as ordinary ONNX ({' and '.join(sections)}: {named}); "
        f"spikes do {share(host)} of the {host.macs:,} multiply-accumulates"
    )


def share(host: Host) -> str:
    """Return the share that spikes do, never rounded to all where it is not all."""
    return "all" if not host.host_macs else f"{min(host.share, 0.9999):.2%}"


def lines(host: Host) -> list[str]:
    """Return a line for the whole and one for every node."""
    found = [f"{line(host)}; the host's nodes add no steps"]
    for node in host.nodes:
        macs = f", {node.macs:,} multiply-accumulates" if node.macs else ""
        found.append(f"  {node.text}{macs}")
    return found
