"""Target ``akida``: quantised layers for BrainChip's Akida 2, verified on akida's CPU simulator."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import manifest
from snnc.backends.akida.layers import AkidaLayer, emulate, lower, problems
from snnc.backends.golden import FILE as GOLDEN
from snnc.backends.programs import copy, foreign, program, run
from snnc.errors import ArtefactError, UsageError
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph
from snnc.simulation.targets import Capabilities, Emission, Golden, Unsupported, VerificationResult

SCRIPT, LAYERS, ARRAYS = "snnc_akida.py", "layers.json", "layers.npz"
SOURCE = Path(__file__).with_name(f"{SCRIPT}.txt")
INTERPRETER = "AKIDA_PYTHON"
PACKAGE = "akida==2.19.3"
MOST_SECONDS = 600

CAPABILITIES = Capabilities(
    summary="BrainChip's Akida 2: one quantised layer per population, through akida's Python interface",
    exact=False,
    exactness="thresholds and biases are rounded to 8 bits; `deploy` measures what that costs",
    verified_by="akida 2.19.3 on the CPU: outputs of 1,000 images, bit for bit those that snnc computes for "
    "it; never on the chip",
    profiles={"v2": "InputData, Conv2D and Dense1D of Akida 2, with 4- or 8-bit outputs"},
    takes="chains of convolutions and dense layers in the layerwise schedule",
)


class Akida:
    """Writes layers and the program that builds the model from them."""

    name: ClassVar[str] = "akida"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    advice: ClassVar[str] = "use the target c99 or spiking-onnx for equal results"

    def __init__(self, profile: str | None = None) -> None:
        """Choose the form; there is one.

        Raises:
            UsageError: there is no such form.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what Akida's layers cannot hold."""
        return problems(graph)

    def differences(self, graph: SnnGraph) -> tuple[str, ...]:
        """Say in which points Akida's layers differ from the network's."""
        return ("a population's threshold is a factor of 8 bits and a shift, its bias an int8 and a shift",)

    def emulate(self, graph: SnnGraph, q: IntArray) -> IntArray:
        """Return what Akida will answer, (rows, classes) int32."""
        return emulate(lower(graph), q).astype(np.int32)

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the layers and the program."""
        graph = artefact.graph
        layers = lower(graph)
        shape = graph.encoder.shape
        arrays: dict[str, IntArray] = {}
        rows, before = [], shape
        for index, layer in enumerate(layers):
            for name in ("weight", "bias", "bias_shift", "scale", "shift", "top", "top_shift"):
                arrays[f"{name}_{index}"] = getattr(layer, name).astype(np.int32)
            rows.append(_settings(layer, before))
            before = graph[layer.name].shape
        np.savez(directory / ARRAYS, **arrays)  # type: ignore[arg-type]
        text = json.dumps({"input": list(shape), "layers": rows}, indent=1)
        (directory / LAYERS).write_text(text + "\n", encoding="utf-8")
        shutil.copyfile(SOURCE, directory / SCRIPT)
        facts = {
            "weight_bytes": sum(int(layer.weight.size) for layer in layers),
            "layers": len(layers),
            "output_bits": [layer.bits for layer in layers],
        }
        payload = f"counts of {max(layer.bits for layer in layers[:-1] or layers)} bits"
        return Emission(_guide(), facts, reset="none: every layer is computed once", payload=payload)

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run the layers in the Python that has akida: the one named by ``AKIDA_PYTHON``, else this one."""
        named = os.environ.get(INTERPRETER, sys.executable)
        python = program(named)
        advice = f"python -m pip install {PACKAGE}, where {INTERPRETER} may name the interpreter"
        if python is None:
            raise UsageError(f"the interpreter {named!r} is not installed; {advice}")
        with tempfile.TemporaryDirectory(prefix="snnc-") as name:
            folder = Path(name)
            version = run([python, "-c", "import akida; print(akida.__version__)"], MOST_SECONDS, folder)
            if version.returncode:
                raise UsageError(f"{named} has no akida: {advice}; --hashes-only checks the files alone")
            other = foreign(directory, manifest.read(directory), {SCRIPT: SOURCE.read_text(encoding="utf-8")})
            shutil.copyfile(SOURCE, folder / SCRIPT)
            copy(directory, (LAYERS, ARRAYS, GOLDEN), folder)
            result = run([python, SCRIPT], MOST_SECONDS, folder)
        lines = result.stdout.splitlines()
        if lines[-1:] not in (["PASSED"], ["FAILED"]):
            last = (result.stderr.strip().splitlines() or ["no output"])[-1]
            raise ArtefactError(f"{directory}: akida does not run it: {last}")
        wrong = sum(line.endswith("wrong") for line in lines)
        runner = f"akida {version.stdout.strip()} (CPU)"
        compared = "outputs y, bit for bit those computed for Akida"
        return VerificationResult(runner, len(golden.y), wrong, compared, other)


def _settings(layer: AkidaLayer, before: tuple[int, ...]) -> dict[str, object]:
    """Return what the program needs beside the arrays."""
    return {
        "name": layer.name,
        "kernel": 0 if layer.window is None else layer.window.kernel[0],
        "stride": 0 if layer.window is None else layer.window.strides[0],
        "same": layer.same,
        "bits": layer.bits,
        "before": list(before),
    }


def _guide() -> str:
    """Return what an integrator has to know."""
    return f"""## Run it

```
python -m pip install {PACKAGE}
python {SCRIPT}
```

builds the model of Akida 2 from `{LAYERS}` and `{ARRAYS}`, saves it as `network.fbz`, runs the golden inputs
on akida's CPU simulator and compares the outputs bit for bit with those that snnc computed for Akida; `build`
and `infer` in that file are how to run inputs of your own.

A population is one layer whose output is its spike count over the run. `1 / threshold` is a factor of 8 bits
and a shift, the bias an int8 and a shift: so the outputs are not quite the artefact's, and `MANIFEST.json`
says what that costs. Never run on the chip.
"""
