"""Time the way from a module of PyTorch to a report, for a ResNet-8, in at most ten lines.

    python -m benchmarks.site.from_torch [--shared FOLDER]

The module is the residual network of MLPerf Tiny (three blocks of 16, 32 and 64 channels, 12.5 million
multiplications an image), trained for some steps so that its activations are those of a network. The images
are 1,000 for the calibration and 1,000 for the report: of CIFAR-10 in FOLDER, by default ``../shared``,
or else smooth noise. Training and reading images are not in the time; importing snnc and torch is. What each
line takes is printed in seconds and in seconds of processor time, by which a busy machine is told from a slow
program.

Source of the network: Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021.
"""

# PyTorch is an extra, absent where the checks run.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.corpus_data import DEFAULT, load, synthetic

CALIBRATION, TEST = 1000, 1000
LIMIT_LINES, LIMIT_SECONDS = 10, 120

TEN_LINES = """
import numpy as np
import torch
import snnc
from network import ResNet8
model = ResNet8()
model.load_state_dict(torch.load("weights.pt", weights_only=True))
rows = np.load("rows.npz")
network = snnc.convert(model, rows["calibration"], timesteps=4, preset="balanced")
report = network.report(rows["test"], rows["labels"], output="report.html")
print(report.verdict.text)
""".strip()

NETWORK = """
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.project = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.project(x))


class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.classifier(x.mean(dim=(2, 3)))
"""

TIMED = """
import json, os, sys, time
lines = open("ten_lines.py").read().splitlines()
space, found = {"__name__": "__main__"}, []
for line in lines:
    begun, worked = time.monotonic(), sum(os.times()[:4])
    exec(compile(line, "ten_lines.py", "exec"), space)
    found.append((line, time.monotonic() - begun, sum(os.times()[:4]) - worked))
json.dump(found, open("times.json", "w"))
"""


def images(folder: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return images, (n, 3, 32, 32) float32 from -1 to 1, their classes, (n,), and what they are."""
    if (folder / "data").is_dir():
        folder = folder / "data"
        parts = [load(folder, "cifar10_train", CALIBRATION), load(folder, "cifar10_test_dev", TEST)]
        counts = (CALIBRATION, TEST)
        x = np.concatenate([part[:count] for (part, _), count in zip(parts, counts, strict=True)])
        y = np.concatenate([part[:count] for (_, part), count in zip(parts, counts, strict=True)])
        return (x.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32), y.astype(np.int64), "CIFAR-10"
    x = synthetic((3, 32, 32), CALIBRATION + TEST, 0).astype(np.float32)
    return x, np.random.default_rng(0).integers(0, 10, len(x)), "noise"


def prepare(folder: Path, shared: Path) -> str:
    """Write the module, its weights and the rows into a folder; return what the rows are."""
    import torch

    (folder / "network.py").write_text(NETWORK, encoding="utf-8")
    (folder / "ten_lines.py").write_text(TEN_LINES, encoding="utf-8")
    space: dict[str, Any] = {}
    exec(compile(NETWORK, "network.py", "exec"), space)
    x, y, what = images(shared)
    np.savez(folder / "rows.npz", calibration=x[:CALIBRATION], test=x[CALIBRATION:], labels=y[CALIBRATION:])
    torch.manual_seed(0)
    model = space["ResNet8"]()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for rows in torch.arange(CALIBRATION).split(50):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)[rows]), torch.from_numpy(y)[rows])
        loss.backward()
        optimiser.step()
    torch.save(model.state_dict(), folder / "weights.pt")
    return what


def main() -> int:
    """Print what each line took; 1 where they are too many, or took too long."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="snnc-from-torch-") as name:
        folder = Path(name)
        what = prepare(folder, asked.shared)
        subprocess.run([sys.executable, "-c", TIMED], cwd=folder, check=True)
        found = json.loads((folder / "times.json").read_text(encoding="utf-8"))
        size = (folder / "report.html").stat().st_size
    print(
        f"rows: {CALIBRATION} to calibrate, {TEST} to report, of {what}; report.html has {size / 1e3:.0f} kB"
    )
    print("| line | seconds | processor |\n|---|---|---|")
    for line, seconds, processor in found:
        print(f"| `{line}` | {seconds:.1f} | {processor:.1f} |")
    seconds, processor = (sum(each[k] for each in found) for k in (1, 2))
    print(f"| {len(found)} lines | {seconds:.1f} | {processor:.1f} |")
    return int(len(found) > LIMIT_LINES or seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
