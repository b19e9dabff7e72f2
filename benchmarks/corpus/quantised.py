"""Quantised networks of others: how many spike counts are the source's own levels, on real images.

    python -m benchmarks.corpus.quantised                          # 1,000 images each; writes the figures
    python -m benchmarks.corpus.quantised --print                  # the table of docs/quantised.md
    python -m benchmarks.corpus.quantised --qonnx ENV/bin/python   # with QONNX's own executor as the judge

Each network is converted with the preset `exact` and run on test images; the count of every neuron is
compared with the integer that the source's operator gives there. The judge of a file of ONNX's and
onnxruntime's operators is onnxruntime. QONNX files it cannot run: their judge is the executor of the package
`qonnx`, in an environment of its own (`python -m venv ENV && ENV/bin/pip install qonnx`), or else the
evaluator of the package onnx with `Quant` by its definition.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.common import corpus_data, digests, tables
from snnc.analysis import costs
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.compiler import Conversion, Options, convert
from snnc.diagnostics import APPROXIMATED_LEVELS
from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire
from snnc.metrics.shares import Share
from snnc.simulation.protocol import RecordOptions
from snnc.source.exact_session import exact_session

MEASURED = Path(__file__).resolve().parent.parent / "measured" / "quantised.jsonl"
CALIBRATION_ROWS = 64
ROWS = 1000
CHUNK = 50

Array = NDArray[Any]

ZERO = {
    "QuantizeLinear": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
    "QGemm": 8,
    "QLinearAdd": 7,
    "QLinearMul": 7,
    "QLinearGlobalAveragePool": 4,
    "QLinearAveragePool": 4,
}
"""Operators that give integers, and which input says what stands for zero."""


@dataclass(frozen=True, slots=True)
class Case:
    """A quantised network.

    Attributes:
        form: how it is quantised.
        folder: of the file, in the shared folder.
        data: the data set.
        divide, mean, std: of the preprocessing.
        layout: of the images.
        kind: type of the input.
    """

    form: str
    folder: str
    data: str
    divide: float
    mean: Sequence[float]
    std: Sequence[float]
    layout: str
    kind: str = "float32"

    def prepared(self, images: Array) -> Array:
        """Return images as the network takes them."""
        x: Array = images.astype(np.float32) / np.float32(self.divide)
        x = x[..., None] if x.ndim == 3 else x
        x = (x - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        x = x if self.layout == "NHWC" else x.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(x.astype(self.kind))


CASES = {
    "tinycnn_cifar_int8_ort": Case(
        "QLinearConv, QLinearAdd, QGemm (onnxruntime)",
        "wild/models",
        "cifar10",
        255,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        "NCHW",
    ),
    "mlperf_resnet8_int8_tflite": Case(
        "QDQ per channel (TFLite)", "models", "cifar10", 1, (128,), (1,), "NHWC", "int8"
    ),
    "qonnx_tfc_2w2a": Case("QONNX Quant (Brevitas)", "models", "mnist", 255, (0,), (1,), "NCHW"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of a network.

    Attributes:
        name: of the network.
        form: how it is quantised.
        judge: what ran the source.
        levels: of its activations.
        timesteps: T.
        payload: what one event carries.
        rows: images.
        seen: counts that were compared.
        equal: those that are the source's level.
        named: what the conversion said of approximations; empty for nothing.
        source: images that the source classifies rightly.
        spiking: images that the spiking network does.
        agree: images on which both answer the same.
        code: digest of the sources.
    """

    name: str
    form: str
    judge: str
    levels: str
    timesteps: int
    payload: str
    rows: int
    seen: int
    equal: int
    named: str
    source: int
    spiking: int
    agree: int
    code: str = ""


class Quant(OpRun):
    """QONNX's Quant, by its definition."""

    op_domain = "onnx.brevitas"

    def _run(
        self,
        x: Array,
        scale: Array,
        zero: Array,
        bits: Array,
        narrow: int = 0,
        rounding_mode: str = "ROUND",
        signed: int = 1,
    ) -> tuple[Array]:
        if rounding_mode != "ROUND":
            raise ValueError(f"rounding mode {rounding_mode}")
        half = 2 ** (int(bits) - 1)
        low, high = (-half + narrow, half - 1) if signed else (0, 2 * half - 1 - narrow)
        return (((np.rint(np.clip(x / scale + zero, low, high)) - zero) * scale).astype(np.float32),)


class BatchNormalization(OpRun):
    """The operator at inference: before opset 14 the evaluator takes statistics of the batch."""

    def _run(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        mean: Array,
        variance: Array,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
    ) -> tuple[Array]:
        shape = (-1, *(1,) * (x.ndim - 2))
        gain = scale / np.sqrt(variance + np.float32(epsilon))
        y = (x - mean.reshape(shape)) * gain.reshape(shape) + shift.reshape(shape)
        return (y.astype(np.float32),)


def by_onnxruntime(path: Path, x: Array) -> tuple[dict[str, IntArray], Array]:
    """Return the source's integers, zero point subtracted, by the name of their node; and its answers."""
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    wanted: dict[str, tuple[str, int]] = {}
    answer = model.graph.output[0].name
    for node in model.graph.node:
        if node.op_type not in ZERO or node.input[0] in constants:
            continue
        zero = constants[node.input[ZERO[node.op_type]]]
        wanted[node.name] = (node.output[0], int(zero.ravel()[0]))
        if node.output[0] != answer:
            kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
            model.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = exact_session(model.SerializeToString(), options)
    given = session.get_inputs()[0]
    step = 1 if given.shape[0] == 1 else CHUNK
    names = [output.name for output in session.get_outputs()]
    parts: list[Any] = [session.run(names, {given.name: x[i : i + step]}) for i in range(0, len(x), step)]
    values = {name: np.concatenate([part[k] for part in parts]) for k, name in enumerate(names)}
    levels: dict[str, IntArray] = {
        node: values[name].astype(np.int64) - zero for node, (name, zero) in wanted.items()
    }
    return levels, values[answer].reshape(len(x), -1)


def quantisers(path: Path) -> dict[str, tuple[str, float]]:
    """Return tensor and scale of every activation that a QONNX file rounds, by the name of its node."""
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.name: (node.output[0], float(constants[node.input[1]].ravel()[0]))
        for node in model.graph.node
        if node.op_type == "Quant" and node.input[0] not in constants
    }


def by_definition(path: Path, x: Array) -> tuple[dict[str, IntArray], Array]:
    """Return the levels and answers of a QONNX file by the evaluator of the package onnx."""
    model = onnx.load(path)
    known = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - known):  # files may leave it out
        model.opset_import.append(helper.make_opsetid(domain, 1))
    run = ReferenceEvaluator(model, new_ops=[Quant, BatchNormalization]).run
    initial = {tensor.name for tensor in model.graph.initializer}
    given = next(value.name for value in model.graph.input if value.name not in initial)
    wanted = quantisers(path)
    names = [tensor for tensor, _ in wanted.values()] + [model.graph.output[0].name]
    parts: list[Any] = [run(names, {given: x[i : i + 1]}) for i in range(len(x))]
    return _levels_of(wanted, [np.concatenate([part[k] for part in parts]) for k in range(len(names))])


def by_qonnx(python: Path, path: Path, x: Array) -> tuple[dict[str, IntArray], Array]:
    """Return the levels and answers of a QONNX file by QONNX's own executor."""
    wanted = quantisers(path)
    answer = onnx.load(path).graph.output[0].name
    with tempfile.TemporaryDirectory(prefix="snnc-") as temporary:
        folder = Path(temporary)
        names = [*(tensor for tensor, _ in wanted.values()), answer]
        np.save(folder / "x.npy", x)
        job = Path(__file__).with_name("qonnx_job.py")
        command = [str(python), str(job), str(path), str(folder), *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{job.name}: {done.stderr.strip().splitlines()[-1]}")
        values = [np.load(folder / f"{k}.npy", allow_pickle=False) for k in range(len(names))]
    return _levels_of(wanted, values)


def _levels_of(
    wanted: dict[str, tuple[str, float]], values: list[Array]
) -> tuple[dict[str, IntArray], Array]:
    levels: dict[str, IntArray] = {
        node: np.rint(real / scale).astype(np.int64)
        for (node, (_, scale)), real in zip(wanted.items(), values[:-1], strict=True)
    }
    return levels, values[-1].reshape(len(values[-1]), -1)


def counts(artefact: Artefact, x: Array) -> tuple[dict[str, IntArray], Array]:
    """Return the spike counts by the name of the source's node, and the answers."""
    graph = artefact.graph
    simulator = load_simulator("numba")
    found: dict[str, list[IntArray]] = {}
    answers: list[Array] = []
    for start in range(0, len(x), CHUNK):
        q = artefact.encode(x[start : start + CHUNK].astype(np.float32))
        trace = simulator.run(graph, q, graph.timesteps, RecordOptions(states=True))
        for node in graph.of_type(IntegrateFire):
            found.setdefault(node.origin, []).append(trace.counts[node.name])
        answers.append(np.asarray(trace.logits))
    return {name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(answers)


def converted(case: Case, path: Path, shared: Path, timesteps: int) -> Conversion:
    """Return the conversion, calibrated on training images, which only a float input needs."""
    train, _ = corpus_data.load(shared / "data", f"{case.data}_train", CALIBRATION_ROWS)
    rows = case.prepared(train[:CALIBRATION_ROWS]).astype(np.float32)
    return convert(path, rows, Options(timesteps=timesteps, preset="exact"))


def measured(
    name: str,
    *,
    rows: int = ROWS,
    timesteps: int = 1,
    shared: Path = corpus_data.DEFAULT,
    qonnx: Path | None = None,
) -> Found:
    """Convert one network, and compare its counts with the source's levels."""
    case = CASES[name]
    path = shared / case.folder / f"{name}.onnx"
    images, labels = corpus_data.load(shared / "data", f"{case.data}_test_dev")
    x, y = case.prepared(images[:rows]), labels[:rows]
    conversion = converted(case, path, shared, timesteps)
    judge = "onnxruntime"
    if "QONNX" not in case.form:
        levels, source = by_onnxruntime(path, x)
    elif qonnx is None:
        judge, (levels, source) = "onnx, Quant by definition", by_definition(path, x)
    else:
        judge, (levels, source) = "qonnx", by_qonnx(qonnx, path, x)
    ours, answers = counts(conversion.artefact, x)
    seen = equal = 0
    values = {n.origin: n.step_values for n in conversion.artefact.graph.of_type(IntegrateFire)}
    for node, found in ours.items():
        wanted = levels[node].reshape(found.shape)
        if (kept := values[node]) is not None:  # what a rectifier behind the rounding leaves of the levels
            wanted = wanted.clip(kept.min(), kept.max())
        seen += wanted.size
        equal += int((wanted == found).sum())
    graph = conversion.artefact.graph
    steps = sorted({len(n.step_values) for n in graph.of_type(IntegrateFire) if n.step_values is not None})
    named = [d.message for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS]
    theirs, mine = source.argmax(axis=1), answers.argmax(axis=1)
    return Found(
        name,
        case.form,
        judge,
        " and ".join(map(str, steps)),
        timesteps,
        costs.payload(graph, timesteps),
        len(x),
        seen,
        equal,
        "; ".join(named),
        int((theirs == y).sum()),
        int((mine == y).sum()),
        int((theirs == mine).sum()),
        digests.compiler(),
    )


def page(found: Sequence[Found]) -> str:
    """Return the table."""

    def top1(hits: int, n: int) -> str:
        share = Share(hits, n)
        low, high = share.interval
        return f"{100 * share.value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"

    head = ("network", "form", "judge", "levels", "T", "payload", "images", "counts equal", "differ")
    tops = ("source, top-1 %", "spiking, top-1 %", "same answer")
    lines = [
        (
            *(each.name, each.form, each.judge, each.levels, str(each.timesteps), each.payload),
            *(f"{each.rows:,}", f"{100 * each.equal / each.seen:.4f} %"),
            f"{each.seen - each.equal:,} of {each.seen:,}",
            *(top1(each.source, each.rows), top1(each.spiking, each.rows), f"{each.agree:,}"),
        )
        for each in found
    ]
    return tables.table((*head, *tops), lines)


@click.command()
@click.option("--rows", default=ROWS, show_default=True, help="Test images of each network.")
@click.option("--timesteps", "-T", "steps", multiple=True, type=int, default=(1, 3), show_default=True)
@click.option("--networks", "-n", "chosen", multiple=True, type=click.Choice(list(CASES)))
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--qonnx", type=click.Path(path_type=Path), help="A Python with the package qonnx.")
@click.option("--print", "shown", is_flag=True, help="Print the table of what was measured.")
def main(
    rows: int, steps: tuple[int, ...], chosen: tuple[str, ...], shared: Path, qonnx: Path | None, shown: bool
) -> None:
    """Measure how many spike counts are the source's levels."""
    if shown:
        click.echo(page([Found(**row) for row in tables.read(MEASURED)]), nl=False)
        return
    if not (shared / "models" / "index.json").is_file():
        raise click.ClickException(f"{shared} is not there: the corpus is kept outside the project")
    known = {(row["name"], row["timesteps"]): row for row in tables.read(MEASURED)}
    for name in chosen or CASES:
        for timesteps in steps:
            found = measured(name, rows=rows, timesteps=timesteps, shared=shared, qonnx=qonnx)
            click.echo(page([found]).splitlines()[-1])
            known[name, timesteps] = asdict(found)
    lines = [json.dumps(row) for row in known.values()]
    MEASURED.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
