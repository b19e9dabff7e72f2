"""``snnc inspect``: the contents of an artefact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.given import refuse
from snnc.cli.quantities import Threads
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.ir.snn import Function, IntegrateFire, SnnGraph


@click.command("inspect", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option("--ir", is_flag=True, help="Print every operation, one per line.")
@click.option("--plan", is_flag=True, help="Print how the CPU simulator runs it on this machine.")
@click.option(
    "-T",
    "--timesteps",
    type=click.IntRange(min=1),
    metavar="N",
    help="For --plan: number of time steps; as calibrated by default.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="For --plan: rows at once."
)
@click.option("--threads", type=Threads(), metavar="N", help="For --plan: number of threads; all by default.")
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    ir: bool,
    plan: bool,
    timesteps: int | None,
    batch: int,
    threads: int | None,
) -> None:
    """Show how ARTEFACT was made, its spiking populations, and what it has learned since.

    ARTEFACT may be a replay buffer of `snnc adapt`, too. The plan depends on the network, on the density
    that was measured at its conversion, and on the processor. Another processor may have another plan; the
    spikes are the same.
    """
    from snnc.adaptation.buffer import is_buffer
    from snnc.artefact import load
    from snnc.ir.snn import IntegrateFire
    from snnc.ir.text import print_graph

    if not plan:
        refuse("needs --plan", "--timesteps", "--batch", "--threads")
    if is_buffer(artefact):
        refuse("is of an artefact, and this is a replay buffer", "--ir", "--plan")
        _show_buffer(terminal, artefact)
        return
    network = load(artefact)
    if plan:
        _show_plan(terminal, network, timesteps, batch, threads)
        return
    if terminal.json:
        found = described(network)
        terminal.data({**found, "ir": print_graph(network.graph)} if ir else found)
    elif ir:
        terminal.listing(print_graph(network.graph))
    else:
        terminal.table(("", ""), _summary(network))
        columns = ("population", "ONNX node", "shape", "spikes", "threshold", "unit")
        terminal.table(columns, [_row(node) for node in network.graph.of_type(IntegrateFire)])
        if functions := described(network)["functions"]:
            columns = ("function of counts", "kind", "shape", "products", "look-ups", "divisions")
            terminal.table(columns, [_function_row(found) for found in functions])
        if (learned := described(network)["adaptation"]) is not None:
            headings = ("edit", "classes", "rows", "replayed", "weights added")
            terminal.table(headings, [_edit_row(edit) for edit in learned["edits"]])


def _show_buffer(terminal: Terminal, path: Path) -> None:
    from snnc.adaptation import read_buffer

    found = read_buffer(path).as_dict()
    if terminal.json:
        terminal.data(found)
        return
    train = f", {found['window']} of {found['steps']} steps OR-ed to one" if found["window"] else ""
    shape = " x ".join(map(str, found["shape"]))
    terminal.table(
        ("", ""),
        [
            ("replay buffer", f"of the layer {found['cut']}, network {found['network'][:16]}..."),
            ("rows", f"{found['rows']:,}"),
            ("latents", f"{found['latents']}{train}: {shape} values of {found['bits']} bits"),
            ("bytes", f"{found['bytes']:,}, {found['bytes_per_row']:,} a row; at most {found['limit']:,}"),
        ],
    )
    seen = found["seen"]
    terminal.table(
        ("class", "held", "seen"), [(c, f"{n:,}", f"{seen[c]:,}") for c, n in found["held"].items()]
    )


def _edit_row(edit: Mapping[str, Any]) -> tuple[str, ...]:
    classes = ", ".join(map(str, edit["classes"]))
    figures = (edit["rows"], edit["replay_rows"], edit["weights_added"])
    return (edit["id"], classes, *(f"{value:,}" for value in figures))


def _show_plan(
    terminal: Terminal, network: Artefact, timesteps: int | None, batch: int, threads: int | None
) -> None:
    from snnc.backends.numba_cpu import NumbaSimulator

    steps = network.graph.timesteps if timesteps is None else timesteps
    plan = NumbaSimulator(threads).plan(network.graph, steps, batch)
    if terminal.json:
        terminal.data({"timesteps": steps, "batch": batch, **plan.as_dict()})
    else:
        terminal.listing(str(plan))


def described(network: Artefact) -> dict[str, Any]:
    """Return the JSON form of what an artefact says about itself."""
    from snnc.analysis import costs
    from snnc.analysis.latency import latency_steps
    from snnc.cli.host import told_of
    from snnc.ir.snn import Function, IntegrateFire

    graph, metadata = network.graph, network.metadata
    calibration = {
        key: value for key, value in metadata.calibration.items() if key not in ("row_hashes", "choice")
    }
    return {
        "name": graph.name,
        "timesteps": graph.timesteps,
        "settle_steps": graph.settle_steps,
        "schedule": graph.schedule.value,
        "max_timesteps": graph.max_timesteps,
        "latency_steps": latency_steps(graph, graph.timesteps, network.input_segments),
        "payload": costs.payload(graph, graph.timesteps),
        "precision": "int8" if graph.integer else "float32",
        "weight_bits": _weight_bits(graph),
        "parameters": _parameters(graph),
        "weight_sparsity": costs.weight_sparsity(graph),
        "snnc_version": metadata.snnc_version,
        "schema_version": metadata.schema_version,
        "preset": metadata.preset,
        "pipeline": metadata.pipeline,
        "passes": [dict(record) for record in metadata.records],
        "preprocessing": metadata.preprocessing,
        "input_layout": metadata.input_layout,
        "inputs": [_input(network, name) for name in network.takes],
        "outputs": [_output(network, name) for name in network.gives],
        "selection": dict(metadata.selection),
        "source": {"path": metadata.source_path, "sha256": metadata.source_sha256},
        "calibration": calibration,
        "choice": metadata.calibration.get("choice"),
        "host": told_of(network, graph.timesteps),
        "adaptation": _adaptation(network),
        "layers": [_layer(node) for node in graph.of_type(IntegrateFire)],
        "functions": [_function(graph, node) for node in graph if isinstance(node, Function)],
    }


def _adaptation(network: Artefact) -> dict[str, Any] | None:
    """Return what the artefact has learned after its conversion, without the sums themselves."""
    from snnc.adaptation import adaptation_of

    learned = adaptation_of(network)
    if learned is None:
        return None
    stored = network.metadata.adaptation
    size = 0 if stored is None else len(json.dumps(stored))
    return {
        "cut": learned.cut,
        "head": learned.head.value,
        "counts_per_row": learned.features,
        "ridge": learned.ridge,
        "routed": learned.routed,
        "classes_before": learned.base_classes,
        "record_bytes": size,
        "edits": [
            {
                "id": edit.id,
                "classes": list(edit.classes),
                "names": {str(label): name for label, name in edit.names.items()},
                "rows": edit.rows,
                "replay_rows": edit.replay_rows,
                "weights_added": learned.added_by(edit),
            }
            for edit in learned.edits
        ],
    }


def _input(network: Artefact, name: str) -> dict[str, Any]:
    stored = next((entry for entry in network.metadata.inputs if entry["name"] == name), {})
    return {
        "name": name,
        "dtype": stored.get("dtype"),
        "shape": list(network.takes[name].shape),
    }


def _output(network: Artefact, name: str) -> dict[str, Any]:
    stored = next((entry for entry in network.metadata.outputs if entry["name"] == name), {})
    readout = network.graph.readouts.get(name) if network.host is None else None
    return {
        "name": name,
        "shape": list(network.gives[name]),
        "task": stored.get("task", network.metadata.task) or None,
        "ends": network.source_ends[name] or None,
        "left_out": network.ends[name] or None,
        "unit": None if readout is None else "one" if readout.gain is None else "per channel",
    }


def _interface(entries: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['name']} {'x'.join(map(str, each['shape'])) or '1'}" for each in entries)


def _layer(node: IntegrateFire) -> dict[str, Any]:
    from snnc.ir.operations import firing

    return {
        "name": node.name,
        "onnx_node": node.origin,
        "shape": list(node.shape),
        "payload": node.neuron.payload,
        "levels": node.neuron.levels,
        "spikes_per_step": node.neuron.spikes_per_step,
        "memory": firing(node).remembers,
        "rule": firing(node).value,
        "threshold": None
        if node.breakpoints is not None
        else [node.threshold.min().item(), node.threshold.max().item()],
        "breakpoints": 0 if node.breakpoints is None else node.breakpoints.shape[1],
        "unit": [node.spike_scale.min().item(), node.spike_scale.max().item()],
    }


def _function(graph: SnnGraph, node: Function) -> dict[str, Any]:
    """Return what a function of counts is and takes, per image and step."""
    from snnc.analysis.node_costs import evaluation
    from snnc.ir.bounds import count_bounds

    own = evaluation(graph, node)
    return {
        "name": node.name,
        "onnx_node": node.origin,
        "function": type(node).__name__,
        "shape": list(node.shape),
        "reads": list(node.inputs),
        "largest_count": count_bounds(graph, graph.timesteps)[node.name],
        "count_products": own.products,
        "table_lookups": own.lookups,
        "divisions": own.divisions,
    }


def _parameters(graph: SnnGraph) -> int:
    from snnc.ir.snn import Weighted

    return sum(int(node.weight.size) for node in graph.of_type(Weighted))


def _weight_bits(graph: SnnGraph) -> int | None:
    """Return the bits of the weights between populations; ``None`` where there are none, or floats."""
    from snnc.numerics.quantisation import widest_layer

    found = widest_layer(graph) if graph.integer else None
    return None if found is None else found[1]


def _precision(found: Mapping[str, Any]) -> str:
    """Return the type of the weights, and how many bits are used where these are fewer."""
    few = found["weight_bits"] is not None and found["weight_bits"] < 8
    between = f", of which layers between populations take {found['weight_bits']} bits" if few else ""
    return f"{found['precision']}{between}"


def _summary(network: Artefact) -> list[tuple[str, str]]:
    found = described(network)
    calibration, source = found["calibration"], found["source"]
    proved = f", proved up to T = {found['max_timesteps']}" if found["max_timesteps"] else ""
    return [
        ("network", found["name"]),
        ("source", f"{source['path']} (SHA-256 {source['sha256'][:16]}...)"),
        ("inputs", _interface(found["inputs"])),
        ("outputs", _interface(found["outputs"])),
        ("steps", f"T = {found['timesteps']}, K = {found['settle_steps']}, {found['schedule']}{proved}"),
        ("spikes", found["payload"]),
        (
            "precision",
            f"{_precision(found)}, {found['parameters']:,} weights, {found['weight_sparsity']:.1%} zero",
        ),
        *_host(network),
        ("preset", (found["preset"] or "none") + _chosen(found["choice"])),
        ("pipeline", found["pipeline"]),
        ("calibration", f"{calibration.get('rows', 'unknown number of')} rows"),
        ("preprocessing", "none" if found["preprocessing"] is None else str(dict(found["preprocessing"]))),
        *_learned(found["adaptation"]),
        ("made by", f"snnc {found['snnc_version']}, schema {found['schema_version']}"),
    ]


def _learned(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what the artefact has learned, in a line."""
    if found is None:
        return []
    told = f"{len(found['edits'])} edits behind {found['cut']}, head {found['head']}"
    return [("learned", f"{told}, {found['classes_before']} classes before, {found['record_bytes']:,} bytes")]


def _host(network: Artefact) -> list[tuple[str, str]]:
    """Return what runs as ordinary ONNX, node by node."""
    host = network.host
    if host is None:
        return []
    return [("host", f"{host.line}; {host.latency}"), *(("", node.text) for node in host.nodes)]


def _chosen(choice: Mapping[str, Any] | None) -> str:
    """Return why it was chosen, and among how many."""
    if choice is None:
        return ""
    tried = len(choice.get("candidates", ()))
    return f", chosen: {choice.get('reason', '')}" + (f" ({tried} tried)" if tried else "")


def _function_row(found: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (found[key] for key in ("count_products", "table_lookups", "divisions"))
    shape = "x".join(map(str, found["shape"]))
    return (found["name"], found["function"], shape, *(f"{value:,}" for value in figures))


def _row(node: IntegrateFire) -> tuple[str, ...]:
    low, high = node.threshold.min().item(), node.threshold.max().item()
    threshold = f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}"
    if node.breakpoints is not None:
        threshold = f"{node.breakpoints.shape[1]} breakpoints"
    return (
        node.name,
        node.origin,
        "x".join(map(str, node.shape)),
        node.neuron.payload,
        threshold,
        f"{node.spike_scale.min():.3g}"
        if node.spike_scale.min() == node.spike_scale.max()
        else f"{node.spike_scale.min():.3g} to {node.spike_scale.max():.3g}",
    )
