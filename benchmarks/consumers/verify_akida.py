"""akida's CPU simulator on 1,000 images, and what its 8-bit thresholds cost.

python benchmarks/consumers/verify_akida.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pooled_network
from subjects import FOLDER, MODEL, Row, environment, show

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.akida import Akida
from snnc.backends.akida.backend import PACKAGE
from snnc.backends.deployment import deploy
from snnc.backends.semantics import judge
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.data.readings import NetworkInput
from snnc.ir.graph import IntArray
from snnc.models import calibration_data, resolve, test_data

SETTINGS = {"set-schedule.kind": "layerwise", "lower.input-limit": "127"}
NETWORKS = {
    "strided, 4 levels": Options(4, "balanced", settings=SETTINGS),
    "strided, 15 levels (4 bits)": Options(15, "balanced", settings=SETTINGS),
    "strided, 100 levels (8 bits)": Options(100, "balanced", settings=SETTINGS),
}

RUN = """
import sys

import numpy as np

bundle, rows, out = sys.argv[1:]
sys.path.insert(0, bundle)
import snnc_akida

np.save(out, snnc_akida.infer(snnc_akida.build(), np.load(rows)))
"""


def run(python: Path, name: str, artefact: Artefact, q: IntArray, labels: IntArray) -> tuple[Row, str]:
    """Run one network in akida; return the row, and a line on the cost."""
    backend = load_backend("akida")
    if not isinstance(backend, Akida):
        raise TypeError("the target akida is another")
    bundle = FOLDER / "bundles" / "akida"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    deploy(artefact, backend, bundle, force=True, accept_semantics=True)
    expected = backend.emulate(artefact.graph, q)
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "q.npy"), Path(folder, "y.npy")
        np.save(rows, q)
        command = [str(python), "-c", RUN, str(bundle), str(rows), str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["no output"])[-1]
            return Row(PACKAGE, "akida, v2", name, "", f"WRONG: does not run: {last}"), ""
        found = np.load(out)
    wrong = int((found != expected).any(axis=1).sum())
    answers = len(np.unique(expected, axis=0))
    what = f"outputs of {len(q)} images ({answers} different)"
    cost = judge(artefact, backend, q, labels).cost
    return Row(
        PACKAGE.replace("==", " "), "akida, v2", name, what, "bit-exact" if not wrong else f"{wrong} WRONG"
    ), str(cost)


def main() -> int:
    """Print the tables."""
    python = environment("akida", PACKAGE)
    entry = resolve(MODEL)
    preprocessing = Preprocessing.from_dict(entry.preprocessing)
    rows, labels = calibration_data(entry)
    images, wanted = test_data(entry)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / "strided.onnx"
    pooled_network.write(model, "", preprocessing.apply(rows, NetworkInput.of_shape((1, 28, 28))), labels)
    found, costs = [], []
    for name, options in NETWORKS.items():
        artefact = convert(model, rows, options, preprocessing=preprocessing).artefact
        row, cost = run(python, name, artefact, artefact.encode(images), wanted)
        found.append(row)
        costs.append(f"| {name} | {cost} |")
    failed = show(found)
    print("\n| network | Akida beside the artefact |\n|---|---|")
    print("\n".join(costs))
    return failed


if __name__ == "__main__":
    sys.exit(main())
