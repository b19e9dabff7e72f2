"""Target ``loihi``: a chain of layers for lava and lava-dl, verified in lava's CPU simulation."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from snnc.artefact import Artefact
from snnc.backends import manifest
from snnc.backends.chain import chain
from snnc.backends.golden import FILE as GOLDEN
from snnc.backends.loihi import limits, network_file
from snnc.backends.programs import copy, foreign, program, run
from snnc.errors import ArtefactError, UsageError
from snnc.ir.snn import SnnGraph
from snnc.simulation.targets import (
    Capabilities,
    Emission,
    Golden,
    Unsupported,
    VerificationResult,
    several_inputs_or_outputs,
    unknown_operations,
)

SCRIPT = "snnc_lava.py"
SOURCE = Path(__file__).with_name(f"{SCRIPT}.txt")
INTERPRETER = "LAVA_PYTHON"
PACKAGES = "lava-nc==0.10.0 lava-dl==0.6.0 h5py"
MOST_SECONDS = 3600

CAPABILITIES = Capabilities(
    summary="Intel's Loihi 2, by way of lava: a netx network in HDF5 and neurons with soft reset",
    exact=True,
    verified_by="lava 0.10 and lava-dl 0.6 on the CPU (Loihi2SimCfg, fixed_pt): outputs, counts and "
    "potentials, bit for bit; never on the chip",
    profiles={"soft-reset": "neurons of our own for lava, which come with the bundle"},
    takes="chains of convolutions, dense layers and average pooling whose potentials fit into 24 bits",
)


class Loihi:
    """Writes a netx network, and runs it in lava."""

    name: ClassVar[str] = "loihi"
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, profile: str | None = None) -> None:
        """Choose the form; there is one.

        Raises:
            UsageError: there is no such form.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what the exchange format or the chip's numbers cannot hold."""
        if found := unknown_operations(graph) or several_inputs_or_outputs(graph):
            return found
        numbers = limits.problems(graph)
        return (*chain(graph)[1], *numbers) if graph.integer else numbers

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the network and the neurons."""
        graph = artefact.graph
        layers, _ = chain(graph)
        network_file.write(graph, layers, directory / network_file.FILE)
        shutil.copyfile(SOURCE, directory / SCRIPT)
        fit = limits.fit(graph, layers)
        return Emission(_guide(graph, fit), {"fit": fit})

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run the network in the Python that has lava: the one named by ``LAVA_PYTHON``, else python3.10."""
        with tempfile.TemporaryDirectory(prefix="snnc-") as name:
            folder = Path(name)
            python = _interpreter(folder)
            other = foreign(directory, manifest.read(directory), {SCRIPT: SOURCE.read_text(encoding="utf-8")})
            shutil.copyfile(SOURCE, folder / SCRIPT)
            copy(directory, (network_file.FILE, GOLDEN, manifest.NAME), folder)
            result = run([python, SCRIPT], MOST_SECONDS, folder)
            asked = "from importlib.metadata import version as v; print(v('lava-nc'))"
            version = run([python, "-c", asked], MOST_SECONDS, folder)
        lines = result.stdout.splitlines()
        if lines[-1:] not in (["PASSED"], ["FAILED"]):
            last = (result.stderr.strip().splitlines() or ["no output"])[-1]
            raise ArtefactError(f"{directory}: lava does not run it: {last}")
        agreed = sum(line.endswith("as expected") for line in lines)
        wrong = len(golden.y) - agreed
        if result.returncode:
            wrong = max(wrong, 1)
        compared = "outputs y, counts N and potentials v, bit for bit"
        return VerificationResult(
            f"lava {version.stdout.strip()} (CPU)", len(golden.y), wrong, compared, other
        )


def _interpreter(folder: Path) -> str:
    """Return a Python that has lava.

    Raises:
        UsageError: there is none.
    """
    named = os.environ.get(INTERPRETER, "")
    python = program(named or "python3.10")
    advice = (
        f"lava needs Python 3.10: make an environment with {PACKAGES} (lava-dl with --no-deps), and name its "
        f"interpreter by {INTERPRETER}; --hashes-only checks the files alone"
    )
    if python is None:
        raise UsageError(f"the interpreter {named or 'python3.10'!r} is not installed; {advice}")
    probe = "import h5py, lava.magma; from importlib.metadata import version; version('lava-dl')"
    if run([python, "-c", probe], MOST_SECONDS, folder).returncode:
        raise UsageError(f"{named or 'python3.10'} has no lava; {advice}")
    return python


def _guide(graph: SnnGraph, fit: dict[str, Any]) -> str:
    """Return what an integrator has to know."""
    rows = "\n".join(
        f"| {row['population']} | {row['neurons']:,} | {row['fan_in']:,} | {row['synapses']:,} "
        f"| {row['weight_bytes']:,} | {row['cores_at_least']} |"
        for row in fit["layers"]
    )
    steps = graph.timesteps + graph.settle_steps
    return f"""## Run it

`{network_file.FILE}` is a network of lava-dl's netx. Its convolutions and dense layers are lava's own; its
neurons, with soft reset, are in `{SCRIPT}`, for lava's integrate-and-fire neurons reset to zero.

```
python3.10 -m venv lava
lava/bin/pip install lava-nc==0.10.0 h5py
lava/bin/pip install --no-deps lava-dl==0.6.0
lava/bin/python {SCRIPT}
```

runs the golden inputs in lava's CPU simulation and compares outputs, counts and potentials bit for bit;
`Runner` in that file is how to run inputs of your own. Keep other scripts in another folder: lava executes
all that lies beside a process. The quantised input enters as graded spikes in each of the T steps. Every
layer adds a step of delay, so an answer takes {steps} + {len(fit["layers"])} steps. Images are
[width][height][channel] in lava.

## Fit

Never run on the chip: on Loihi 2 the neurons are to be written in its microcode, by the rule in `{SCRIPT}`.
By Intel's public figures the network takes at least {fit["cores_at_least"]} of {limits.CORES} cores (neurons
and memory divided by what a core has; kernels counted once) and {fit["synapses"]:,} of
{limits.SYNAPSES_PER_CHIP:,} synapses. Weights have {fit["weight_bits"]} bits, potentials use at most
{fit["state_bits_used"]} of {limits.STATE_BITS} bits.

| population | neurons | largest fan-in | synapses | weight bytes | cores, at least |
|---|---|---|---|---|---|
{rows}
"""
