"""NIR bundles in their consumer: every spike of every population, compared with snnc's simulator of it.

Each consumer has its own script, which names it; see ``main``. The networks are converted here, and lie in
build/consumers; others, named on the command line as NETWORK.snn.onnx, get made-up inputs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pooled_network
from subjects import FOLDER, Row, environment, show

from snnc.artefact import Artefact, load, save
from snnc.backends import load_simulator
from snnc.backends.deployment import deploy
from snnc.backends.golden import make_golden
from snnc.backends.nir import Nir, runner
from snnc.backends.nir.backend import run
from snnc.backends.nir.emulator import emulate
from snnc.backends.nir.profiles import PROFILES, Profile
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.data.readings import NetworkInput
from snnc.ir.graph import IntArray
from snnc.models import calibration_data, resolve, test_data

MODEL = "zoo:fashion-resnet"
IMAGES = 32
"""Images whose spikes are compared, one by one."""

JUDGED = 512
"""Images on which the cost of other semantics is measured, in snnc's simulator."""

TORCH = "torch==2.13.0"

IN_TIME = Options(16, "binary-only")
LAYERWISE = Options(4, "balanced", settings={"set-schedule.kind": "layerwise"})
NETWORKS = {
    "residual, T = 4": (MODEL, Options(4, "balanced")),
    "residual, T = 16, unsigned": (MODEL, IN_TIME),
    "residual, layerwise, T = 4": (MODEL, LAYERWISE),
    "mean-pooled, T = 16, unsigned": ("AveragePool", IN_TIME),
    "max-pooled, layerwise, T = 4": ("MaxPool", LAYERWISE),
}

COMPARE = """
import importlib.util, json, sys
import numpy as np

script, given, out = sys.argv[1:]
spec = importlib.util.spec_from_file_location("bundle", script)
bundle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bundle)
with np.load(given) as arrays:
    expected = {name: arrays[name] for name in arrays.files}
q, y = expected.pop("q"), expected.pop("y")
trains = {}
found = bundle.infer(bundle.load(), q, trains)
told = {
    "wrong": int((found != y).any(axis=1).sum()),
    "missing": sorted(set(expected) - set(trains)),
    "populations": len(trains),
    "neurons": int(sum(train[0, 0].size for train in trains.values())),
    "spikes": int(sum(train.sum() for train in trains.values())),
    "differ": int(sum((trains[name] != expected[name]).sum() for name in expected if name in trains)),
    "version": bundle.version(bundle.NAME),
}
json.dump(told, open(out, "w"))
"""


@dataclass(frozen=True, slots=True)
class Network:
    """A converted network with images.

    Attributes:
        name: for the tables.
        artefact: the network.
        path: its file.
        q: (rows, *shape), the quantised images.
        labels: (rows,); ``None`` where the inputs are made up.
    """

    name: str
    artefact: Artefact
    path: Path
    q: IntArray
    labels: IntArray | None

    @property
    def in_time(self) -> bool:
        """Whether the consumer's own rules matter."""
        return self.artefact.graph.schedule.value == "synchronous"


@cache
def network(name: str) -> Network:
    """Convert, or read what was converted before."""
    entry = resolve(MODEL)
    source, options = NETWORKS[name]
    preprocessing = Preprocessing.from_dict(entry.preprocessing)
    path = FOLDER / f"nir-{list(NETWORKS).index(name)}.snn.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, labels = calibration_data(entry)
        model = source
        if source != MODEL:
            model = str(FOLDER / f"{source}.onnx")
            x = preprocessing.apply(rows, NetworkInput.of_shape((1, 28, 28))).astype(np.float32)
            pooled_network.write(Path(model), source, x, labels)
        save(convert(model, rows, options, preprocessing=preprocessing).artefact, path)
    artefact = load(path)
    images, labels = test_data(entry)
    return Network(name, artefact, path, artefact.encode(images[:JUDGED]), labels[:JUDGED].astype(np.int64))


def named(path: Path) -> Network:
    """Return a network from a file, with made-up inputs."""
    artefact = load(path)
    return Network(path.name.removesuffix(".snn.onnx"), artefact, path, make_golden(artefact).q, None)


def verify(consumer: Profile, python: Path, item: Network) -> Row:
    """Run one network, and compare every spike."""
    backend = Nir(consumer.name)
    folder = FOLDER / "bundles" / f"{item.path.name}-nir-{consumer.name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    images = None if item.labels is None else test_data(resolve(MODEL))[0]
    deploy(item.artefact, backend, folder, rows=images, source=item.path, force=True, accept_semantics=True)
    q = item.q[:IMAGES]
    expected = emulate(backend.program(item.artefact.graph), consumer.rule, q, keep=True)
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary, "expected.npz"), Path(temporary, "told.json")
        stored: dict[str, Any] = {"q": q, "y": expected.y, **expected.trains}
        np.savez(given, **stored)
        command = [
            str(python),
            "-W",
            "ignore",
            "-c",
            COMPARE,
            str(folder / runner.SCRIPT),
            str(given),
            str(out),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
        who, what = f"{consumer.name} {consumer.version}", f"nir, {consumer.name}"
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["?"])[-1]
            return Row(who, what, item.name, "", f"does not load: WRONG: {last}")
        told = json.loads(out.read_text(encoding="utf-8"))
    different = len(np.unique(expected.y, axis=0))
    compared = (
        f"outputs of {len(q)} images ({different} different) and {told['spikes']:,} spikes of "
        f"{told['populations']} populations"
    )
    right = not (told["wrong"] or told["differ"] or told["missing"])
    verdict = "every spike equal" if right else f"WRONG: {told['differ']} spikes, {told['wrong']} outputs"
    if right and not item.in_time:
        verdict += "; outputs those of the artefact, bit for bit"
        reference = load_simulator("onnx").run(item.artefact.graph, q, item.artefact.graph.timesteps).logits
        if (reference != expected.y).any():
            verdict = "WRONG: not the artefact's outputs"
    return Row(f"{consumer.name} {told['version']}", what, item.name, compared, verdict)


def cost(consumer: Profile, item: Network) -> str:
    """Return what the consumer's rules cost, as a line of a table."""
    graph = item.artefact.graph
    here = load_simulator("onnx").run(graph, item.q, graph.timesteps).logits.argmax(axis=1)
    program = Nir(consumer.name).program(graph)
    found = run(program, consumer.rule, item.q)
    there = found.y.argmax(axis=1)
    right = [100 * float((answers == item.labels).mean()) for answers in (here, there)]
    lost, same = right[0] - right[1], 100 * float((here == there).mean())
    cells = (
        item.name,
        str(program.timesteps),
        f"{right[0]:.1f} %",
        f"{right[1]:.1f} %",
        f"{lost:+.1f}",
        f"{same:.1f} %",
        f"{sum(found.spikes.values()) / len(item.q):,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main(name: str) -> int:
    """Verify all networks in one consumer, or those on the command line, and print tables."""
    consumer = PROFILES[name]
    python = environment(name, TORCH, f"{name}=={consumer.version}", *consumer.requirements)
    items = [named(Path(path)) for path in sys.argv[1:]] or [network(title) for title in NETWORKS]
    failed = show([verify(consumer, python, item) for item in items])
    judged = [item for item in items if item.labels is not None]
    if judged:
        print(f"\nWhat the rules of {name} cost, on {JUDGED} images:\n")
        print(
            "| network | steps there | artefact | there | points lost | same class | spikes per image there |"
        )
        print("|---|---|---|---|---|---|---|")
    for item in judged:
        print(cost(consumer, item))
    return failed
