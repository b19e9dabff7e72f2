"""Print a digest of the integer graph of networks and presets: does a change of sources change one?

    python -m benchmarks.corpus.graph_digests --networks zoo:fashion-resnet --json before.json
    python -m benchmarks.corpus.graph_digests --networks zoo:fashion-resnet --compare before.json

A digest covers the kinds of all nodes in their order, their shapes, arrays, settings and wiring, and the
settings of the network. Names do not count, for an input is the place of the node that is read; nor does
what only says where a node came from. Networks without data at hand are calibrated on synthetic rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import corpus_data
from benchmarks.common.digests import ROOT
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.errors import SnncError
from snnc.frontend import read_onnx
from snnc.ir.snn import SnnGraph
from snnc.models import calibration_data, list_models, resolve
from snnc.passes import PRESETS

ZOO = "zoo:"
SEARCHES = "low-power"
"""The preset that searches, which takes minutes."""

SEED = 0
FORMER = {
    "spike_scale": "unit",
    "count_memory": "memory",
    "LAYERWISE: 'layerwise'": "BARRIER: 'barrier'",
}
"""Names by which settings went before: a digest is the same under both."""

ADDED = {
    "Encode": {"presented"},
    "IntegrateFire": {"decay", "synapse_decay", "reset_to", "reset_by", "refractory", "fraction_bits"},
    "Readout": {"gain", "decay", "synapse_decay", "fraction_bits"},
}
"""Fields that came later, by the kind of node: at their defaults they change no digest."""

PROVENANCE = frozenset({"name", "inputs", "origin", "stands_for", "fine"})
"""Fields of nodes that name something; inputs are told by their places."""


def digest(graph: SnnGraph) -> str:
    """Return the digest of a network."""
    place = {node.name: index for index, node in enumerate(graph)}
    found = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype.str}{value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        else:
            text = repr(value)
            for new, former in FORMER.items():
                text = text.replace(new, former)
            found.update(text.encode())
        found.update(b";")

    for node in graph:
        add(type(node).__name__)
        add([place[name] for name in node.inputs])
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            added = field.name in ADDED.get(type(node).__name__, ())
            later = added and not isinstance(value, np.ndarray) and value == field.default
            if field.name not in PROVENANCE and not later:
                add(field.name)
                add(value)
    for name in graph.outputs:
        add(place[name])
    add((graph.timesteps, graph.settle_steps, graph.schedule, graph.max_timesteps))
    add(sorted((place[name], share) for name, share in graph.density.items()))
    return found.hexdigest()[:16]


def rows_of(name: str, shared: Path, rows: int) -> tuple[str | Path, NDArray[Any], Preprocessing | None]:
    """Return the model, calibration rows and their preprocessing of one network.

    Raises:
        click.ClickException: there is no such network.
    """
    if name.startswith(ZOO):
        entry = resolve(name)
        x, _ = calibration_data(entry)
        return name, x[:rows], Preprocessing.from_dict(entry.preprocessing)
    found = [network for network in corpus_data.networks(shared) if network.name == name]
    if not found:
        raise click.ClickException(f"the corpus has no network {name!r}")
    if found[0].data:
        sets = corpus_data.sets(shared, found[0], rows)
        return found[0].path, sets.calibration[:rows], sets.preprocessing
    shape = read_onnx(found[0].path).layout.source_shape
    return found[0].path, corpus_data.synthetic(shape, rows, SEED), None


def measured(
    names: list[str], presets: list[str], timesteps: int, rows: int, shared: Path
) -> Iterator[tuple[str, str]]:
    """Yield a key and a digest for each network and preset; a refusal stands for itself."""
    for name in names:
        try:
            model, x, preprocessing = rows_of(name, shared, rows)
        except SnncError as error:
            yield name, f"refused: {error}"
            continue
        for preset in presets:
            try:
                options = Options(timesteps=timesteps, preset=preset, seed=SEED)
                text = digest(convert(model, x, options, preprocessing=preprocessing).artefact.graph)
            except SnncError as error:
                text = f"refused: {error}".replace(f"{ROOT}/", "")  # other sources lie elsewhere
            yield f"{name} {preset} T={timesteps}", text


@click.command()
@click.option("--networks", default="", help="Names separated by commas, zoo:NAME included; all by default.")
@click.option("--presets", default=",".join(PRESETS), show_default=True)
@click.option("--no-search", is_flag=True, help=f"Leave {SEARCHES} out: it searches.")
@click.option("--timesteps", "-T", default=4, show_default=True, type=click.IntRange(1))
@click.option("--rows", default=64, show_default=True, type=click.IntRange(1), help="Calibration rows.")
@click.option("--shared", default=corpus_data.DEFAULT, show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the digests to this file.")
@click.option("--compare", type=click.Path(exists=True, path_type=Path), help="Digests of an earlier run.")
def main(
    networks: str,
    presets: str,
    no_search: bool,
    timesteps: int,
    rows: int,
    shared: Path,
    output: Path | None,
    compare: Path | None,
) -> None:
    """Print a digest of the integer graph of each network and preset."""
    names = [name.strip() for name in networks.split(",") if name.strip()]
    if not names:
        names = [network.name for network in corpus_data.networks(shared)]
        names += [f"{ZOO}{entry.name}" for entry in list_models()]
    chosen = [preset.strip() for preset in presets.split(",") if preset.strip()]
    chosen = [preset for preset in chosen if not (no_search and preset == SEARCHES)]
    before = {} if compare is None else json.loads(compare.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    changed = []
    for key, text in measured(names, chosen, timesteps, rows, shared):
        found[key] = text
        if compare is not None and before.get(key) != text:
            changed.append(key)
        mark = "" if compare is None else ("  same" if key not in changed else f"  WAS {before.get(key)}")
        click.echo(f"{text}  {key}{mark}")
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if changed:
        raise click.ClickException(f"{len(changed)} of {len(found)} differ: {', '.join(changed)}")


if __name__ == "__main__":
    main()
