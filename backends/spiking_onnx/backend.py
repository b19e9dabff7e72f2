"""Target ``spiking-onnx``: a model for ONNX runtimes, verified in onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx

from snnc.artefact import Artefact
from snnc.artefact.file import write_model
from snnc.artefact.model_builder import tensor_names
from snnc.artefact.precision import node_digits
from snnc.artefact.weights import files_beside
from snnc.backends.programs import copy, run_python
from snnc.backends.spiking_onnx.forms import checked, inline, scan, unroll
from snnc.errors import ArtefactError, InternalError, TargetError
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import NumberArray
from snnc.ir.operations import KINDS, Firing
from snnc.ir.snn import SnnGraph
from snnc.simulation.targets import (
    Capabilities,
    Emission,
    Golden,
    Unsupported,
    VerificationResult,
    unknown_operations,
)

FILE = "network.onnx"
ONLY_ERRORS = 3
MOST_SECONDS = 3600

_RUN = f"""
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = {ONLY_ERRORS}
try:
    session = onnxruntime.InferenceSession({FILE!r}, options, providers=["CPUExecutionProvider"])
    given = np.load("x.npz")
    x = {{entry.name: given[str(k)] for k, entry in enumerate(session.get_inputs())}}
    y = session.run([entry.name for entry in session.get_outputs()], x)
except Exception as error:  # onnxruntime's errors have no common root
    sys.exit(str(error).strip().partition(chr(10))[0] or type(error).__name__)
np.savez("y.npz", **{{str(k): array for k, array in enumerate(y)}})
"""

CAPABILITIES = Capabilities(
    summary="a model for ONNX runtimes, with neurons and time written in ONNX",
    exact=True,
    verified_by="onnxruntime, bit for bit, on random networks and on every bundle",
    profiles={
        "function": "neurons as local functions, time as Loop: the artefact's own form, its weights dense",
        "inlined": "plain operators, time as Loop: for runtimes without functions",
        "unrolled": "plain operators, every step written out: for runtimes without Loop; T is fixed",
        "scan": "plain operators, time as Scan",
    },
    takes="every integer network",
    every_integer_network=True,
)


class SpikingOnnx:
    """Writes and runs the ONNX forms of a network."""

    name: ClassVar[str] = "spiking-onnx"
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, profile: str | None = None) -> None:
        """Choose the form, ``function`` by default.

        Raises:
            UsageError: there is no such form.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what float32 convolutions cannot hold exactly."""
        if found := unknown_operations(graph, KINDS, tuple(Firing), over_time=True):
            return found
        if not graph.integer:
            node = graph[graph.outputs[0]]
            reason, cure = "float32 networks have no bit-exact vectors", "convert with --precision int8"
            return (Unsupported(node.name, node.origin, reason, cure),)
        try:
            node_digits(graph)
        except TargetError as error:
            last = graph[graph.outputs[0]]
            return (Unsupported(last.name, last.origin, str(error), "use fewer steps"),)
        return ()

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the model."""
        graph = artefact.graph
        # Not every runtime that takes these forms has the operators that unpack a sparse weight.
        model = artefact.model(sparse=False)
        match self.profile:
            case "function":
                form = model
            case "inlined":
                form = inline(model)
            case "unrolled":
                form = unroll(model, graph.timesteps + graph.settle_steps)
            case "scan":
                form = scan(model)
            case _:
                raise InternalError(f"no form {self.profile!r}")
        write_model(checked(form), directory / FILE)
        operators = sorted({node.op_type for node in _all_nodes(form.graph)})
        facts = {"form": self.profile, "opset": _opset(form), "operators": operators}
        return Emission(_guide(self.profile, graph), facts)

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run the model in onnxruntime, in a process of its own: a model may run for ever, or crash it."""
        import onnxruntime

        with tempfile.TemporaryDirectory(prefix="snnc-") as name:
            folder = Path(name)
            copy(directory, (FILE, *sorted(path.name for path in files_beside(directory / FILE))), folder)
            _save_all(folder / "x.npz", golden.x)
            result = run_python(_RUN, MOST_SECONDS, folder)
            try:
                with np.load(folder / "y.npz", allow_pickle=False) as arrays:
                    found = [arrays[key] for key in sorted(arrays.files, key=int)]
            except (OSError, ValueError):
                first = (result.stderr.strip().splitlines() or ["no output"])[-1]
                raise ArtefactError(f"{directory / FILE}: onnxruntime does not run it: {first}") from None
        differs = np.zeros(len(golden.y), bool)
        for y, expected in zip(found, _arrays(golden.y), strict=True):
            differs |= (y != expected).reshape(len(differs), -1).any(axis=1)
        runner = f"onnxruntime {onnxruntime.__version__}"
        return VerificationResult(runner, len(golden.y), int(differs.sum()), "outputs y, bit for bit")


def _arrays(rows: Rows) -> list[NumberArray]:
    return list(rows.arrays.values()) if isinstance(rows, Batch) else [rows]


def _save_all(path: Path, rows: Rows) -> None:
    numbered: dict[str, Any] = {str(k): array for k, array in enumerate(_arrays(rows))}
    np.savez(path, **numbered)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return all nodes, those of bodies included."""
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += _all_nodes(attribute.g)
    return found


def _opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _guide(profile: str, graph: SnnGraph) -> str:
    """Return what an integrator has to know of the model."""
    fixed = profile == "unrolled"
    steps = (
        f"T is fixed to {graph.timesteps}."
        if fixed
        else f"`T` is a second input, a scalar int64; left out, it is {graph.timesteps}. "
        f"At most {graph.max_timesteps} steps are proved not to overflow."
    )
    names = tensor_names(graph)
    shapes = {name: node.shape for name, node in zip(names.inputs, graph.inputs, strict=True)}
    inputs = "; ".join(f"`{name}` (batch, {', '.join(map(str, n))})" for name, n in shapes.items())
    one = len(names.inputs) == 1, len(names.outputs) == 1
    keys = ["x"] if one[0] else [f"x:{node.name}" for node in graph.inputs]
    given = ", ".join(f'"{name}": golden["{key}"]' for name, key in zip(names.inputs, keys, strict=True))
    answers = ["y"] if one[1] else [f"y:{name}" for name in graph.output_names]
    checks = "\n".join(f'assert (found[{k}] == golden["{key}"]).all()' for k, key in enumerate(answers))
    outputs = ", ".join(f"`{name}`" for name in names.outputs)
    return f"""## Run it

`{FILE}` is an ONNX model of the form "{profile}": {CAPABILITIES.profiles[profile]}. It takes {inputs} as
float32; the quantisation to `q` is part of the model. It gives {outputs} as int32. {steps}

```python
import numpy as np, onnxruntime

golden = np.load("golden.npz")
session = onnxruntime.InferenceSession("{FILE}", providers=["CPUExecutionProvider"])
found = session.run(None, {{{given}}})
{checks}
```

All that is computed in float32 are integers that float32 holds exactly, so the results do not depend on the
order of summation. A runtime that lowers the precision of convolutions (float16, bfloat16, TF32) breaks that:
switch it off, in OpenVINO by the inference precision f32.
"""
