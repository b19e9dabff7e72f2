"""onnxruntime-node and onnxruntime-web (WebAssembly) from the npm registry on every ONNX form.

python benchmarks/consumers/verify_node.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from subjects import FOLDER, SUBJECTS, Row, Subject, compared, show, subject

PACKAGES = ("onnxruntime-node@1.30.0", "onnxruntime-web@1.30.0")

RUN = """
const fs = require("node:fs");

async function main() {
  const [name, model, data, shape, out] = process.argv.slice(2);
  const ort = require(name);
  const x = new Float32Array(fs.readFileSync(data).buffer.slice(0));
  const session = await ort.InferenceSession.create(fs.readFileSync(model), { intraOpNumThreads: 1 });
  const { y } = await session.run({ x: new ort.Tensor("float32", x, JSON.parse(shape)) });
  fs.writeFileSync(out, Buffer.from(y.data.buffer, y.data.byteOffset, y.data.byteLength));
}
main();
"""


def install(folder: Path, package: str) -> str:
    """Install a package once, and return its version."""
    manifest = folder / "node_modules" / package.partition("@")[0] / "package.json"
    if not manifest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The package's own script would fetch libraries for GPUs.
        command = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(folder), package]
        subprocess.run(command, check=True)
    return str(json.loads(manifest.read_text(encoding="utf-8"))["version"])


def run(folder: Path, package: str, item: Subject, profile: str) -> Row:
    """Run one form of one network."""
    bundle = item.deploy("spiking-onnx", profile)
    library = package.partition("@")[0]
    consumer, name = f"{library} {install(folder, package)}", f"spiking-onnx, {profile}"
    with tempfile.TemporaryDirectory() as temporary:
        data, out = Path(temporary, "x"), Path(temporary, "y")
        data.write_bytes(item.x.astype("<f4").tobytes())
        (folder / "run.cjs").write_text(RUN, encoding="utf-8")
        model, shape = str(bundle / "network.onnx"), json.dumps(item.x.shape)
        command = ["node", str(folder / "run.cjs"), library, model, str(data), shape, str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if "Error" in line] or ["?"]
            return Row(consumer, name, item.name, "", f"does not load: {errors[0]}")
        return compared(consumer, name, item, np.frombuffer(out.read_bytes(), "<i4"))


def main() -> int:
    """Print the table."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("node and npm are not installed", file=sys.stderr)
        return 2
    folder = FOLDER / "node"
    profiles = ("function", "inlined", "unrolled", "scan")
    wanted = [(package, name, profile) for package in PACKAGES for name in SUBJECTS for profile in profiles]
    return show([run(folder, package, subject(name), profile) for package, name, profile in wanted])


if __name__ == "__main__":
    sys.exit(main())
