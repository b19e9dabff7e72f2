"""Target ``nir``: Neuromorphic Intermediate Representation, as each of its consumers reads it."""

from __future__ import annotations

import importlib.util
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import manifest
from snnc.backends.nir import file, levels, over_time, rates, runner, speck
from snnc.backends.nir.chain import chained
from snnc.backends.nir.emulator import Emulation, bytes_per_row, emulate
from snnc.backends.nir.limits import BARRIER, differences, problems, runs_once
from snnc.backends.nir.profiles import PROFILES, Profile, Rule
from snnc.backends.nir.program import Conv, Dense, Fire, Program, UnfitError
from snnc.backends.nir.square import squared
from snnc.backends.programs import copy, foreign, run_python
from snnc.errors import ArtefactError, TargetError, UsageError
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.numerics.splitting import join_weights
from snnc.simulation.targets import Capabilities, Emission, Golden, Unsupported, VerificationResult

CAPABILITIES = Capabilities(
    summary="NIR files for SpikingJelly, snnTorch, Norse and sinabs, with a script that runs them there",
    exact=False,
    exactness="bit for bit in the layerwise schedule and for T = 1; else it differs, and `deploy` measures "
    "what that costs",
    verified_by="SpikingJelly 2.0.0, snnTorch 1.0.0, Norse 1.1.0 and sinabs 3.1.3, every spike compared with "
    "snnc's simulator of each",
    profiles={profile.name: profile.summary for profile in PROFILES.values()},
    sometimes_exact=True,
    takes="integer networks without concatenation; max-pooling and several levels where results are equal",
)

WORKING_BYTES = 256 * 2**20
"""As many rows are simulated at once as take about this much memory."""

MOST_SECONDS = 3600
ABSENT = 3

_RUN = f"""
import runpy
import numpy as np
try:
    module = runpy.run_path({runner.SCRIPT!r}, run_name="bundle")
    y = module["infer"](module["load"]({runner.FILE!r}), np.load("q.npy"))
except SystemExit as error:
    print(error, file=sys.stderr)
    sys.exit({ABSENT})
except Exception as error:
    first = str(error).strip().partition(chr(10))[0]
    sys.exit(first or type(error).__name__)
np.save("y.npy", np.asarray(y))
"""


class Nir:
    """Writes NIR files, and computes what their consumers compute."""

    name: ClassVar[str] = "nir"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    advice: ClassVar[str] = f"{BARRIER} for equal results in one step, with more neurons"

    def __init__(self, profile: str | None = None) -> None:
        """Choose the consumer, SpikingJelly by default.

        Raises:
            UsageError: there is no such profile.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)
        self._programs: WeakKeyDictionary[SnnGraph, Program] = WeakKeyDictionary()

    @property
    def consumer(self) -> Profile:
        """What is known of the consumer."""
        return PROFILES[self.profile]

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what NIR or the consumer has no words for."""
        if graph.integer and graph.changing is not None:
            return over_time.problems(graph, self.consumer)
        graph = join_weights(graph)
        found = problems(graph, self.consumer)
        if found:
            return found
        try:
            self.program(graph)
        except UnfitError as error:
            node = graph[error.node or graph.output]
            return (Unsupported(node.name, node.origin, str(error), error.cure),)
        return ()

    def differences(self, graph: SnnGraph) -> tuple[str, ...]:
        """Say in which points the consumer's rules differ from the network's."""
        if graph.changing is not None:
            return over_time.differences(graph, self.consumer)
        return differences(join_weights(graph), self.consumer)

    def emulate(self, graph: SnnGraph, q: IntArray) -> IntArray:
        """Return what the consumer will answer, (rows, classes) int32."""
        if graph.changing is not None:
            return over_time.emulate(graph, self.consumer, q)
        return run(self.program(graph), self.consumer.rule, q).y.astype(np.int32)

    def program(self, graph: SnnGraph) -> Program:
        """Return the layers of a network.

        Raises:
            UnfitError: it has a sum or a kernel that the consumer cannot take.
        """
        if graph not in self._programs:
            lower = levels.lower if runs_once(graph) else rates.lower
            program = lower(join_weights(graph), self.consumer)
            if not self.consumer.sums:
                program = chained(program, self.consumer)
            self._programs[graph] = squared(program)
        return self._programs[graph]

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the file and, of a network that sees the same row in each step, the script that runs it."""
        if artefact.graph.changing is not None:
            return over_time.emit(artefact.graph, self.consumer, directory / runner.FILE)
        program, consumer = self.program(artefact.graph), self.consumer
        file.write(program, consumer, directory / runner.FILE)
        (directory / runner.SCRIPT).write_text(runner.script(program, consumer), encoding="utf-8")
        facts = _facts(program, consumer)
        several = consumer.rule is Rule.SUBTRACT and program.timesteps > 1
        reset = "by subtraction, and not below minus one threshold" if several else "to zero"
        if program.timesteps == 1:
            reset = "none that matters: each network runs one step"
        payload = "levels: as many spikes as the potential holds" if several else "binary"
        steps = f"{program.timesteps}, from rest; the outputs are added"
        if program.timesteps == 1:
            steps = f"one, in place of the artefact's T = {artefact.graph.timesteps}"
        return Emission(_guide(program, consumer, facts), facts, reset=reset, payload=payload, steps=steps)

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run the network in its consumer if that is installed here, else in snnc's simulator of it."""
        consumer = self.consumer
        content = manifest.read(directory)
        if "over_time" in content.get("facts", {}):
            return over_time.verify(directory / runner.FILE, consumer, golden, content["facts"]["over_time"])
        steps = content.get("facts", {}).get("steps")
        if not isinstance(steps, int):
            raise ArtefactError(f"{directory}: its manifest does not say how many steps to run; deploy again")
        program = file.read(directory / runner.FILE, steps)
        other = foreign(directory, content, {runner.SCRIPT: runner.script(program, consumer)})
        found: NumberArray
        if (
            importlib.util.find_spec(consumer.name) is not None
            and importlib.util.find_spec("nir") is not None
        ):
            found = _consumed(program, consumer, directory / runner.FILE, golden.q)
            name = f"{consumer.name} {version(consumer.name)}"
        else:
            found = run(program, consumer.rule, golden.q).y
            name = (
                f"snnc's simulator of {consumer.name} {consumer.version} ({consumer.name} itself is not "
                f"installed here; `python {runner.SCRIPT}` runs the bundle where it is)"
            )
        wrong = int((np.asarray(found) != golden.y).any(axis=1).sum())
        return VerificationResult(name, len(golden.y), wrong, "outputs y, bit for bit", other)


def _consumed(program: Program, consumer: Profile, path: Path, q: IntArray) -> NumberArray:
    """Run a file in its consumer, by a script made here: the one in the bundle might be anyone's.

    Raises:
        ArtefactError: the consumer does not take it.
        UsageError: something that it needs is not installed, or it took too long.
    """
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = Path(name)
        (folder / runner.SCRIPT).write_text(runner.script(program, consumer), encoding="utf-8")
        copy(path.parent, (runner.FILE,), folder)
        np.save(folder / "q.npy", q)
        result = run_python(_RUN, MOST_SECONDS, folder)
        first = (result.stderr.strip().splitlines() or ["no output"])[-1]
        if result.returncode == ABSENT:
            raise UsageError(f"{first}; --hashes-only checks the files alone")
        try:
            found: NumberArray = np.load(folder / "y.npy", allow_pickle=False)
        except (OSError, ValueError):
            raise ArtefactError(f"{path}: {consumer.name} does not run it: {first}") from None
    return found


def run(program: Program, rule: Rule, q: NumberArray) -> Emulation:
    """Simulate a consumer, some rows at a time.

    Raises:
        TargetError: a sum was too large to be exact in float32.
    """
    rows = max(1, WORKING_BYTES // bytes_per_row(program))
    parts = [emulate(program, rule, q[start : start + rows]) for start in range(0, len(q), rows)]
    whole = Emulation(
        np.concatenate([part.y for part in parts]),
        spikes={name: sum(part.spikes[name] for part in parts) for name in parts[0].spikes},
        largest=max(part.largest for part in parts),
    )
    if not whole.exact:
        raise TargetError(
            f"a sum reached {whole.largest:.0f}, too much to be exact in float32; use fewer steps, or "
            "another target"
        )
    return whole


def _facts(program: Program, consumer: Profile) -> dict[str, Any]:
    """Return what the manifest tells of the file."""
    fires = [step for step in program.steps if isinstance(step.layer, Fire)]
    numbers = [step.layer for step in program.steps if isinstance(step.layer, Conv | Dense)]
    facts: dict[str, Any] = {
        "consumer": f"{consumer.name} {consumer.version}",
        "requirements": list(consumer.requirements),
        "nir_version": consumer.reads,
        "steps": program.timesteps,
        "nodes": len(program.steps),
        "neurons": int(sum(np.prod(step.shape) for step in fires)),
        "parameters": int(sum(layer.weight.size + layer.bias.size for layer in numbers)),
    }
    if consumer.name == "sinabs":
        facts["fit"] = [speck.report(program)]
    return facts


def _guide(program: Program, consumer: Profile, facts: dict[str, Any]) -> str:
    """Return what an integrator has to know of the file."""
    steps = program.timesteps
    time = (
        "It runs **one step**: what the network sends over time, as many neurons send at once."
        if steps == 1
        else f"Present `q` in each of {steps} steps, from rest, and add the outputs."
    )
    rows = "rows come in a batch" if consumer.batch else "one row at a time, without the axis of a batch"
    text = f"""## Run it

`{runner.FILE}` is a NIR graph as NIR {consumer.reads} writes it and {consumer.name} {consumer.version}
reads it; {rows}. {time}
Its input is the quantised `q` as float32, its output the current of the read-out.

```
python -m pip install {runner.packages(consumer)}
python {runner.SCRIPT}
```

`{runner.SCRIPT}` loads and runs it, and compares with `golden.npz`; its functions `load` and `infer` are
yours to use. {facts["neurons"]:,} neurons, {facts["parameters"]:,} parameters. All numbers are integers or
halves that float32 holds exactly, so that the order of summation does not matter; precision below float32
(TF32, float16) breaks that.
"""
    for fit in facts.get("fit", ()):
        reasons = "".join(f"\n- {reason}" for reason in fit["reasons"])
        text += f"""
## {fit["chip"]}

**Not verified:** judged by the chip's data sheet alone ({fit["source"]}), and not run there.
{"It would fit." if fit["fits"] else f"It does not fit:{chr(10)}{reasons}"}
"""
    return text
