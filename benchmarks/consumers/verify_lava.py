"""lava and lava-dl (netx) on Loihi bundles: every count and potential.

    python benchmarks/consumers/verify_lava.py                    # networks made here
    python benchmarks/consumers/verify_lava.py NETWORK.snn.onnx   # others, on made-up inputs

Needs a Python 3.10, which lava is bound to.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pooled_network
from subjects import FOLDER, MODEL, Row, environment, show

from snnc.artefact import Artefact, load
from snnc.backends import load_backend
from snnc.backends.deployment import deploy
from snnc.backends.golden import make_golden
from snnc.backends.manifest import read
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.data.readings import NetworkInput
from snnc.ir.graph import IntArray
from snnc.models import calibration_data, resolve, test_data
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

IMAGES = 16  # lava needs a second or more for each
PACKAGES = ("lava-nc==0.10.0", "h5py")
ALONE = ("lava-dl==0.6.0",)  # it asks for PyTorch, which nothing here needs

SETTINGS = {"lower.input-limit": "255"}
NETWORKS = {
    "mean-pooled, T = 4, two signed spikes a step": Options(4, "balanced", settings=SETTINGS),
    "mean-pooled, T = 8, unsigned": Options(8, "binary-only", settings=SETTINGS),
    "mean-pooled, T = 4, graded": Options(4, "graded", settings=SETTINGS),
}

RUN = """
import sys
from pathlib import Path

import numpy as np

bundle, rows, timesteps, settle_steps, layers, out = sys.argv[1:]
sys.path.insert(0, bundle)
import snnc_lava

q = np.load(rows)
runner = snnc_lava.Runner(
    Path(bundle, "network.net"), q.shape[1:], int(timesteps), int(settle_steps), int(layers)
)
found = [runner.infer(row) for row in q]
runner.stop()
arrays = {}
for index in range(int(layers)):
    for role, name in ((0, "N"), (1, "v")):
        arrays[f"{name}{index}"] = np.stack([states[index][role] for states in found])
np.savez(out, **arrays)
"""


def python_3_10() -> str | None:
    """Return a Python 3.10 that runs, if there is one."""
    candidates = [shutil.which("python3.10") or "", *map(str, _pyenv())]
    for name in filter(None, candidates):
        if subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0:
            return name
    return None


def _pyenv() -> list[Path]:
    return sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))


def artefacts() -> dict[str, tuple[Artefact, IntArray]]:
    """Convert the networks, and return each with quantised images."""
    entry = resolve(MODEL)
    preprocessing = Preprocessing.from_dict(entry.preprocessing)
    rows, labels = calibration_data(entry)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / "mean-pooled-lava.onnx"
    pooled_network.write(
        model, "AveragePool", preprocessing.apply(rows, NetworkInput.of_shape((1, 28, 28))), labels
    )
    images, _ = test_data(entry)
    found = {}
    for name, options in NETWORKS.items():
        artefact = convert(model, rows, options, preprocessing=preprocessing).artefact
        found[name] = artefact, artefact.encode(images[:IMAGES])
    return found


def run(python: Path, name: str, artefact: Artefact, q: IntArray) -> Row:
    """Run one network in lava, and compare all states of all layers."""
    graph = artefact.graph
    bundle = FOLDER / "bundles" / "loihi"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    deploy(artefact, load_backend("loihi"), bundle, force=True)
    fit = read(bundle)["facts"]["fit"]
    expected = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True))
    populations = list(expected.counts)
    steps = [str(graph.timesteps), str(graph.settle_steps), str(len(populations) + 1)]
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "q.npy"), Path(folder, "states.npz")
        np.save(rows, q)
        # Lava runs every Python file that lies beside a process: this program lies elsewhere.
        program = Path(folder, "run.py")
        program.write_text(RUN, encoding="utf-8")
        command = [str(python), str(program), str(bundle), str(rows), *steps, str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not out.exists():
            last = (result.stderr.strip().splitlines() or ["no output"])[-1]
            return Row("lava 0.10.0", "loihi, soft-reset", name, "", f"WRONG: does not run: {last}")
        with np.load(out) as arrays:
            found = dict(arrays)
    y = found[f"v{len(populations)}"].reshape(len(q), -1)
    wrong = int((y != expected.logits.reshape(len(q), -1)).any(axis=1).sum())
    for index, population in enumerate(populations):
        wrong += not np.array_equal(found[f"N{index}"], expected.counts[population])
        wrong += not np.array_equal(found[f"v{index}"], expected.potentials[population])
    spikes = sum(int(np.abs(counts).sum()) for counts in expected.counts.values())
    answers = len(np.unique(y, axis=0))
    what = (
        f"outputs of {len(q)} inputs ({answers} different), N and v of {len(populations)} populations "
        f"({spikes:,} spikes); at least {fit['cores_at_least']} of 128 cores"
    )
    return Row(
        "lava 0.10.0, lava-dl 0.6.0", "loihi", name, what, "bit-exact" if not wrong else f"{wrong} WRONG"
    )


def main(paths: Sequence[str]) -> int:
    """Print the table."""
    interpreter = python_3_10()
    if interpreter is None:
        print("lava needs Python 3.10, and none is installed", file=sys.stderr)
        return 2
    python = environment("lava", *PACKAGES, alone=ALONE, interpreter=interpreter)
    if paths:
        networks = {Path(path).stem: load(Path(path)) for path in paths}
        subjects = {name: (artefact, make_golden(artefact).q) for name, artefact in networks.items()}
    else:
        subjects = artefacts()
    return show([run(python, name, artefact, q) for name, (artefact, q) in subjects.items()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
