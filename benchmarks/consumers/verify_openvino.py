"""OpenVINO on the inlined and the unrolled form, with the inference precision f32.

python benchmarks/consumers/verify_openvino.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from subjects import SUBJECTS, Row, Subject, compared, environment, show, subject

PACKAGE = "openvino==2026.4.1"

RUN = """
import sys
import numpy as np
import openvino as ov

model, rows, timesteps, out = sys.argv[1:]
core = ov.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
compiled = core.compile_model(core.read_model(model), "CPU", settings)
x = np.load(rows)
feeds = {"x": x}
if len(compiled.inputs) > 1:
    feeds["T"] = np.asarray(int(timesteps), np.int64)
np.save(out, compiled(feeds)["y"])
print(ov.__version__.split("-")[0])
"""


def run(python: Path, item: Subject, profile: str) -> Row:
    """Run one form of one network."""
    bundle = item.deploy("spiking-onnx", profile)
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "x.npy"), Path(folder, "y.npy")
        np.save(rows, item.x)
        model, steps = str(bundle / "network.onnx"), str(item.artefact.graph.timesteps)
        command = [str(python), "-c", RUN, model, str(rows), steps, str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            last = result.stderr.strip().splitlines()[-1]
            return Row("OpenVINO", f"spiking-onnx, {profile}", item.name, "", f"does not load: {last}")
        return compared(f"OpenVINO {result.stdout.strip()}", f"spiking-onnx, {profile}", item, np.load(out))


def main() -> int:
    """Print the table."""
    python = environment("openvino", PACKAGE, "numpy")
    return show([run(python, subject(n), p) for n in SUBJECTS for p in ("inlined", "unrolled")])


if __name__ == "__main__":
    sys.exit(main())
