"""What every consumer is given: converted networks, real images, and what the oracle says of them.

Everything lies in build/consumers and is made again once it is deleted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from snnc.artefact import Artefact, load, save
from snnc.backends import load_backend
from snnc.backends.deployment import deploy
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.ir.graph import FloatArray, IntArray
from snnc.models import calibration_data, resolve, test_data
from snnc.simulation.reference import ReferenceSimulator

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "build" / "consumers"
MODEL = "zoo:fashion-resnet"
IMAGES = 64
TIMESTEPS = 4

SUBJECTS = {
    "residual, T = 4": Options(TIMESTEPS, "balanced"),
    "residual, graded": Options(TIMESTEPS, "graded"),
    "residual, layerwise": Options(TIMESTEPS, "balanced", settings={"set-schedule.kind": "layerwise"}),
}
"""Of the default preset, where no other is named."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network with inputs and the outputs that every consumer has to give.

    Attributes:
        name: for the table.
        artefact: the network.
        path: its file.
        x: (images, *shape) float32, the model's input.
        y: (images, classes) int32.
    """

    name: str
    artefact: Artefact
    path: Path
    x: FloatArray
    y: IntArray

    def deploy(self, target: str, profile: str | None = None) -> Path:
        """Write a bundle and return its folder."""
        folder = FOLDER / "bundles" / f"{self.path.name}-{target}-{profile or 'default'}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        images, _ = test_data(resolve(MODEL))
        backend = load_backend(target, profile)
        deploy(self.artefact, backend, folder, rows=images, source=self.path, force=True)
        return folder


@cache
def subject(name: str) -> Subject:
    """Convert, or read what was converted before."""
    entry = resolve(MODEL)
    path = FOLDER / f"{list(SUBJECTS).index(name)}.snn.onnx"
    if not path.exists():
        rows, _ = calibration_data(entry)
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(convert(MODEL, rows, SUBJECTS[name], preprocessing=preprocessing).artefact, path)
    artefact = load(path)
    images, _ = test_data(entry)
    x = artefact.canonical(images[:IMAGES])
    y = ReferenceSimulator().run(artefact.graph, artefact.encode(images[:IMAGES]), TIMESTEPS).logits
    return Subject(name, artefact, path, x, y.astype(np.int32))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        consumer: who ran it, with version.
        bundle: target and profile.
        network: which network.
        compared: what was compared, on how many inputs with how many different results.
        result: what came out.
    """

    consumer: str
    bundle: str
    network: str
    compared: str
    result: str


def compared(consumer: str, bundle: str, subject: Subject, found: IntArray) -> Row:
    """Compare a consumer's outputs with the oracle's."""
    answers = len(np.unique(subject.y, axis=0))
    classes = len(np.unique(subject.y.argmax(axis=1)))
    what = f"outputs of {len(subject.y)} images ({answers} different, {classes} classes)"
    wrong = int((found.reshape(subject.y.shape) != subject.y).any(axis=1).sum())
    return Row(consumer, bundle, subject.name, what, "bit-exact" if wrong == 0 else f"{wrong} WRONG")


def show(rows: Sequence[Row]) -> int:
    """Print the table, and return 1 if anything was wrong."""
    print("| consumer | bundle | network | compared | result |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.consumer} | {row.bundle} | {row.network} | {row.compared} | {row.result} |")
    return int(any("WRONG" in row.result for row in rows))


def environment(
    name: str, *packages: str, alone: Sequence[str] = (), interpreter: str = sys.executable
) -> Path:
    """Make a Python environment of its own for a consumer, once, and return its interpreter.

    Args:
        name: of the consumer.
        packages: to install, with all that they need.
        alone: to install without what they ask for.
        interpreter: the Python to make it from.
    """
    folder = FOLDER / f"venv-{name}"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join([*packages, *alone])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, *packages], check=True)
        if alone:
            subprocess.run([*install, "--no-deps", *alone], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python
